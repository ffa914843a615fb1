"""Places: coordinates with an identity, so that "the same point" is exact and needs no tolerance.

A place is a cell of 1e-7 degrees (about a centimetre), named by one int64. All longitudes of a pole are one
place, and so are -180 and +180 degrees.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgsid_ray.geo.distance import Floats, unit_xyz

Integers = NDArray[np.int64]

_SCALE = 10_000_000  # places per degree
_CIRCLE = 360 * _SCALE


def place_keys(lat: ArrayLike, lon: ArrayLike) -> Integers:
    """The place of each point in degrees."""
    row = np.rint(np.asarray(lat, dtype=np.float64) * _SCALE).astype(np.int64) + 90 * _SCALE
    column = (np.rint(np.asarray(lon, dtype=np.float64) * _SCALE).astype(np.int64) + 180 * _SCALE) % _CIRCLE
    pole = (row == 0) | (row == 180 * _SCALE)
    return row * _CIRCLE + np.where(pole, 0, column)


def place_degrees(keys: Integers) -> tuple[Floats, Floats]:
    """Latitude and longitude of each place."""
    row, column = np.divmod(keys, _CIRCLE)
    return row / _SCALE - 90, column / _SCALE - 180


def place_xyz(keys: Integers) -> Floats:
    """Each place on the unit sphere, (n, 3)."""
    return unit_xyz(*place_degrees(keys))


@dataclass(frozen=True)
class Gathered:
    """Items grouped by place: the items of place p are `items[starts[p]:starts[p + 1]]`."""

    keys: Integers
    """(places,) ascending."""
    starts: Integers
    """(places + 1,)."""
    items: Integers
    """(items,) item_index, ascending within a place."""

    @property
    def sizes(self) -> Integers:
        """Number of items of each place."""
        return np.diff(self.starts)


def gather(keys: Integers, items: Integers) -> Gathered:
    """Group items by their place."""
    order = np.lexsort((items, keys))
    distinct, starts = np.unique(keys[order], return_index=True)
    return Gathered(distinct, np.append(starts, len(keys)).astype(np.int64), items[order])
