"""A cell together with everything around it that its nearest neighbours can be."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lgsid_ray.geo.distance import Floats
from lgsid_ray.geo.neighbours import nearest_places, surroundings
from lgsid_ray.geo.places import Gathered, Integers, gather, place_xyz


class World:
    """What every task knows of every cell: tight boxes (cells, 2, 3), number of places and of items (cells,)."""

    def __init__(self, boxes: Floats, places: Integers, items: Integers) -> None:
        self.boxes, self.places, self.items = boxes, places, items
        self.offsets = np.concatenate([[0], np.cumsum(items)])


@dataclass(frozen=True)
class Neighbourhood:
    """One cell's places and their halo: the first `count` neighbour ranks of each own place are exact."""

    near: Gathered
    """Items of the cell and of the halo."""
    rows: Integers
    """Where the cell's own places stand in `near`."""
    tree: cKDTree
    count: int

    def ranked(self, places: Integers) -> tuple[Integers, Floats]:
        """Neighbours of the cell's own places (positions within the cell), nearest first.

        Returns:
            Positions in `near` and unit-sphere chords, (places, count).
        """
        return nearest_places(self.tree, self.near.keys, self.rows[places], self.count)


def neighbourhood(cell: int, world: World, load: Callable[[int], Gathered], count: int) -> Neighbourhood:
    """Collect what lies around a cell.

    Args:
        load: the items of a cell, grouped by place; asked only for the cells that matter.
        count: ranks wanted; clipped to the number of other places in the world.
    """
    count = min(count, int(world.places.sum()) - 1)
    loaded = {cell: load(cell)}

    def load_keys(other: int) -> Integers:
        loaded[other] = load(other)
        return loaded[other].keys

    own = loaded[cell].keys
    halo = surroundings(own, world.boxes, world.places, cell, load_keys, count)
    near = _restrict(loaded, np.concatenate([own, halo]))
    return Neighbourhood(near, np.searchsorted(near.keys, own), cKDTree(place_xyz(near.keys)), count)


def _restrict(loaded: dict[int, Gathered], keys: Integers) -> Gathered:
    """The items of the places `keys`, grouped, out of several cells."""
    all_keys, items = [], []
    for group in loaded.values():
        wanted = np.repeat(np.isin(group.keys, keys), group.sizes)
        all_keys.append(np.repeat(group.keys, group.sizes)[wanted])
        items.append(group.items[wanted])
    return gather(np.concatenate(all_keys), np.concatenate(items))
