"""Nearest points against a brute-force loop, on one machine and across cells."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from lgsid_ray.geo.cells import bounds, partition
from lgsid_ray.geo.distance import unit_xyz
from lgsid_ray.geo.neighbourhood import CellIndex, neighbourhood
from lgsid_ray.geo.neighbours import nearest_points
from lgsid_ray.geo.points import group_by_point, point_keys, point_xyz

RNG = np.random.default_rng(0)
MAPS = {
    "random": (np.degrees(np.arcsin(RNG.uniform(-1, 1, 700))), RNG.uniform(-180, 180, 700)),
    "clustered": (RNG.choice([10.0, 10.3, 52.0], 700) + RNG.normal(0, 0.02, 700), RNG.normal(5, 0.02, 700)),
    "antimeridian": (RNG.normal(0, 0.5, 700), (180 + RNG.normal(0, 0.5, 700) + 180) % 360 - 180),
    "polar": (90 - RNG.exponential(0.3, 700), RNG.uniform(-180, 180, 700)),
    "lattice": tuple(np.stack(np.meshgrid(np.arange(20) * 0.1, np.arange(35) * 0.1)).reshape(2, -1)),
    "one far away": (np.append(RNG.normal(0, 0.1, 699), 80.0), np.append(RNG.normal(0, 0.1, 699), 170.0)),
}


def brute(keys, count):
    """Neighbours by a full sort on (chord, key); chords by the tree's own formula."""
    xyz = point_xyz(keys)
    found, chords = [], []
    for p in range(len(keys)):
        chord = np.sqrt(((xyz - xyz[p]) ** 2).sum(axis=1))
        order = [q for q in np.lexsort((keys, chord)) if q != p][:count]
        found.append(order)
        chords.append(chord[order])
    return np.array(found), np.array(chords)


@pytest.mark.parametrize("name", MAPS)
def test_neighbourhoods_of_cells_equal_brute_force(name):
    keys = np.unique(point_keys(*MAPS[name]))
    count = 60
    expected, expected_chords = brute(keys, count)
    cells = partition(point_xyz(keys), 40)
    cell_of = cells.locate(point_xyz(keys))
    groups = [group_by_point(keys[cell_of == c], np.flatnonzero(cell_of == c)) for c in range(cells.count)]
    cell_index = CellIndex(
        np.stack([bounds(point_xyz(g.keys)) for g in groups]),
        np.array([len(g.keys) for g in groups]),
        np.array([len(g.items) for g in groups]),
    )
    assert cells.count > 10
    for cell, group in enumerate(groups):
        around = neighbourhood(cell, cell_index, groups.__getitem__, count)
        found, chords = around.ranked(np.arange(len(group.keys)))
        own = np.searchsorted(keys, group.keys)
        np.testing.assert_array_equal(around.near.keys[found], keys[expected[own]])
        np.testing.assert_allclose(chords, expected_chords[own], atol=1e-15)


def test_halo_leaves_far_cells_out():
    lat, lon = np.meshgrid(np.linspace(0, 10, 60), np.linspace(0, 10, 60))
    keys = np.unique(point_keys(lat.ravel(), lon.ravel()))
    cells = partition(point_xyz(keys), 100)
    cell_of = cells.locate(point_xyz(keys))
    groups = [group_by_point(keys[cell_of == c], np.flatnonzero(cell_of == c)) for c in range(cells.count)]
    sizes = np.array([len(g.keys) for g in groups])
    cell_index = CellIndex(np.stack([bounds(point_xyz(g.keys)) for g in groups]), sizes, sizes)
    asked = []
    around = neighbourhood(0, cell_index, lambda c: asked.append(c) or groups[c], 8)
    assert len(set(asked)) < cells.count / 3
    assert len(around.near.keys) < len(keys) / 6


def test_ties_across_the_last_rank_go_by_key():
    ring = np.arange(0, 360, 30.0)  # twelve points at the same distance from the pole
    keys = np.sort(np.append(point_keys(np.full(12, 80.0), ring), point_keys(90.0, 0.0)))
    tree = cKDTree(np.round(point_xyz(keys), 12))
    pole = np.flatnonzero(keys == point_keys(90.0, 0.0))
    tree_chords = np.linalg.norm(tree.data - tree.data[pole], axis=1)
    expected = [p for p in np.lexsort((keys, tree_chords)) if p != pole[0]][:5]
    found, _ = nearest_points(tree, keys, pole, 5)
    assert found[0].tolist() == expected


def test_points_that_coincide_numerically_do_not_rank_themselves():
    keys = point_keys(np.array([89.9999999, 89.9999999, 89.9999999, 10.0]), np.array([0.0, 1e-6, 2e-6, 0.0]))
    keys = np.unique(keys)
    found, chords = nearest_points(cKDTree(point_xyz(keys)), keys, np.arange(len(keys)), len(keys) - 1)
    assert all(p not in row for p, row in enumerate(found.tolist()))
    assert np.isfinite(chords).all()
    np.testing.assert_allclose(np.linalg.norm(unit_xyz(89.9999999, 0.0)), 1.0)
