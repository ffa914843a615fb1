"""A cell together with everything around it that its nearest neighbours can be."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.geo.neighbours import nearest_points, surroundings
from lgsid_ray.geo.points import PointGroups, group_by_point, point_xyz


class CellIndex:
    """What every task knows of every cell: tight boxes (cells, 2, 3), number of places and of items (cells,)."""

    def __init__(self, boxes: Float64, places: Int64, items: Int64) -> None:
        self.boxes, self.places, self.items = boxes, places, items
        self.offsets = np.concatenate([[0], np.cumsum(items)])


@dataclass(frozen=True)
class Neighbourhood:
    """One cell's places and their halo: the first `count` neighbour ranks of each own place are exact."""

    near: PointGroups
    """Items of the cell and of the halo."""
    rows: Int64
    """Where the cell's own places stand in `near`."""
    tree: cKDTree
    count: int

    def ranked(self, places: Int64) -> tuple[Int64, Float64]:
        """Neighbours of the cell's own places (positions within the cell), nearest first.

        Returns:
            Positions in `near` and unit-sphere chords, (places, count).
        """
        return nearest_points(self.tree, self.near.keys, self.rows[places], self.count)


def neighbourhood(cell: int, cell_index: CellIndex, load: Callable[[int], PointGroups], count: int) -> Neighbourhood:
    """Collect what lies around a cell.

    Args:
        load: the items of a cell, grouped by place; asked only for the cells that matter.
        count: ranks wanted; clipped to the number of other places in the cell_index.
    """
    count = min(count, int(cell_index.places.sum()) - 1)
    loaded = {cell: load(cell)}

    def load_keys(other: int) -> Int64:
        loaded[other] = load(other)
        return loaded[other].keys

    own = loaded[cell].keys
    halo = surroundings(own, cell_index.boxes, cell_index.places, cell, load_keys, count)
    near = _restrict(loaded, np.concatenate([own, halo]))
    return Neighbourhood(near, np.searchsorted(near.keys, own), cKDTree(point_xyz(near.keys)), count)


def _restrict(loaded: dict[int, PointGroups], keys: Int64) -> PointGroups:
    """The items of the places `keys`, grouped, out of several cells."""
    all_keys, items = [], []
    for group in loaded.values():
        wanted = np.repeat(np.isin(group.keys, keys), group.sizes)
        all_keys.append(np.repeat(group.keys, group.sizes)[wanted])
        items.append(group.items[wanted])
    return group_by_point(np.concatenate(all_keys), np.concatenate(items))
