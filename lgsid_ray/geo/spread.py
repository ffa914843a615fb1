"""Groups of points on the sphere: where they centre, and how far from there their members lie.

Sums, centres and distances are steps of their own, so that points can be read part by part.
"""

import numpy as np

from lgsid_ray.arrays import AnyFloat, AnyInt, Float64
from lgsid_ray.geo.distance import chord_to_km


def point_sums(group: AnyInt, xyz: Float64, count: int) -> Float64:
    """(count, 3) sums of the points (n, 3) of each of `count` groups; they add up over parts."""
    return np.stack([np.bincount(group, weights=xyz[:, axis], minlength=count) for axis in range(3)], axis=1)


def centres(sums: Float64) -> Float64:
    """(count, 3) spherical centroids, on the unit sphere; zero where a group has no points."""
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12))


def degrees(points: Float64) -> tuple[Float64, Float64]:
    """Latitude and longitude of points (n, 3) of the unit sphere; NaN for the zero vector."""
    known = np.where(points.any(axis=1, keepdims=True), points, np.nan)
    return np.degrees(np.arcsin(known[:, 2].clip(-1, 1))), np.degrees(np.arctan2(known[:, 1], known[:, 0]))


def distances_km(group: AnyInt, xyz: Float64, centre: Float64) -> Float64:
    """(n,) great-circle distance of each point to the centre of its group."""
    return chord_to_km(np.linalg.norm(xyz - centre[group], axis=1))


def group_medians(group: AnyInt, values: AnyFloat, count: int) -> Float64:
    """(count,) median of the values of each group; NaN where it has none."""
    sizes = np.bincount(group, minlength=count)
    ordered = np.append(values[np.lexsort((values, group))].astype(np.float64), np.nan)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    low, high = ordered[starts + np.maximum(sizes - 1, 0) // 2], ordered[starts + sizes // 2]
    return np.where(sizes > 0, (low + high) / 2, np.nan)
