"""Points: coordinates with an identity, so that "the same point" is exact and needs no tolerance.

A point is rounded to 1e-7 degrees (about a centimetre) and named by one int64, its key. All longitudes of a pole are
one point, and so are -180 and +180 degrees.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.geo.distance import unit_xyz

_SCALE = 10_000_000  # steps per degree
_CIRCLE = 360 * _SCALE


def point_keys(lat: ArrayLike, lon: ArrayLike) -> Int64:
    """The key of each point, given in degrees."""
    row = np.rint(np.asarray(lat, dtype=np.float64) * _SCALE).astype(np.int64) + 90 * _SCALE
    column = (np.rint(np.asarray(lon, dtype=np.float64) * _SCALE).astype(np.int64) + 180 * _SCALE) % _CIRCLE
    pole = (row == 0) | (row == 180 * _SCALE)
    return row * _CIRCLE + np.where(pole, 0, column)


def point_degrees(keys: Int64) -> tuple[Float64, Float64]:
    """Latitude and longitude of each point."""
    row, column = np.divmod(keys, _CIRCLE)
    return row / _SCALE - 90, column / _SCALE - 180


def point_xyz(keys: Int64) -> Float64:
    """Each point on the unit sphere, (n, 3)."""
    return unit_xyz(*point_degrees(keys))


@dataclass(frozen=True)
class PointGroups:
    """Items grouped by point: the items of point p are `items[starts[p]:starts[p + 1]]`."""

    keys: Int64
    """(points,) ascending."""
    starts: Int64
    """(points + 1,)."""
    items: Int64
    """(items,) item_index, ascending within a point."""

    @property
    def sizes(self) -> Int64:
        """Number of items of each point."""
        return np.diff(self.starts)


def group_by_point(keys: Int64, items: Int64) -> PointGroups:
    """Group items by their point."""
    order = np.lexsort((items, keys))
    distinct, starts = np.unique(keys[order], return_index=True)
    return PointGroups(distinct, np.append(starts, len(keys)).astype(np.int64), items[order])
