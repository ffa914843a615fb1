"""A cell together with everything around it that its nearest neighbours can be."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.geo.neighbours import nearest_points, surroundings
from lgsid_ray.geo.points import PointGroups, group_by_point, point_xyz


@dataclass(frozen=True)
class CellIndex:
    """What every task knows of every cell."""

    boxes: Float64
    """(cells, 2, 3) tight boxes."""
    points: Int64
    """(cells,) number of points in each."""
    items: Int64
    """(cells,) number of items in each."""


@dataclass(frozen=True)
class Neighbourhood:
    """One cell's points and their halo: the first `count` neighbour ranks of each own point are exact."""

    near: PointGroups
    """Items of the cell and of the halo."""
    rows: Int64
    """Where the cell's own points stand in `near`."""
    tree: cKDTree
    count: int

    def ranked(self, points: Int64) -> tuple[Int64, Float64]:
        """Neighbours of the cell's own points (positions within the cell), nearest first.

        Returns:
            Positions in `near` and unit-sphere chords, (points, count).
        """
        return nearest_points(self.tree, self.near.keys, self.rows[points], self.count)


def neighbourhood(cell: int, cell_index: CellIndex, load: Callable[[int], PointGroups], count: int) -> Neighbourhood:
    """Collect what lies around a cell.

    Args:
        load: gives the items of a cell, grouped by point; asked only for the cells that matter.
        count: ranks wanted; clipped to the number of other points in all cells.
    """
    count = min(count, int(cell_index.points.sum()) - 1)
    loaded = {cell: load(cell)}

    def load_keys(other: int) -> Int64:
        loaded[other] = load(other)
        return loaded[other].keys

    own = loaded[cell].keys
    halo = surroundings(own, cell_index.boxes, cell_index.points, cell, load_keys, count)
    near = _restrict(loaded, np.concatenate([own, halo]))
    return Neighbourhood(near, np.searchsorted(near.keys, own), cKDTree(point_xyz(near.keys)), count)


def _restrict(loaded: dict[int, PointGroups], keys: Int64) -> PointGroups:
    """The items of the points `keys`, grouped, out of several cells."""
    all_keys, items = [], []
    for group in loaded.values():
        wanted = np.repeat(np.isin(group.keys, keys), group.sizes)
        all_keys.append(np.repeat(group.keys, group.sizes)[wanted])
        items.append(group.items[wanted])
    return group_by_point(np.concatenate(all_keys), np.concatenate(items))
