"""Cells: a partition of the sphere with bounded cells and honest distances to boxes."""

import numpy as np

from lgsid_ray.geo.cells import bounds, gap, partition
from lgsid_ray.geo.distance import unit_xyz


def sphere(rng, n):
    point = rng.normal(size=(n, 3))
    return point / np.linalg.norm(point, axis=1, keepdims=True)


def test_cells_are_bounded_and_cover_everything():
    rng = np.random.default_rng(0)
    dense = unit_xyz(40 + rng.normal(0, 0.01, 3000), -74 + rng.normal(0, 0.01, 3000))
    points = np.concatenate([dense, sphere(rng, 500)])
    cells = partition(points, 100)
    counts = np.bincount(cells.locate(points), minlength=cells.count)
    assert counts.min() >= 1
    assert counts.max() <= 100
    assert cells.locate(sphere(rng, 1000)).max() < cells.count


def test_coinciding_points_stay_together():
    points = np.concatenate([np.tile(unit_xyz(1.0, 2.0), (50, 1)), unit_xyz([3.0, 4.0], [5.0, 6.0])])
    cells = partition(points, 10)
    assert len(np.unique(cells.locate(points[:50]))) == 1
    assert partition(points[:50], 10).count == 1


def test_gap_is_the_distance_to_the_nearest_point_of_the_box():
    rng = np.random.default_rng(1)
    inside = rng.uniform(-0.2, 0.3, (200, 3))
    box = bounds(inside)
    queries = rng.normal(size=(100, 3))
    nearest = np.clip(queries, box[0], box[1])
    np.testing.assert_allclose(gap(queries, box), np.linalg.norm(queries - nearest, axis=1))
    assert (gap(inside, box) == 0).all()
