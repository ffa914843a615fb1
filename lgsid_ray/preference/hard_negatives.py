"""Hard negatives i-: items just outside the anchor's district, and items elsewhere that resemble the anchor."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from lgsid_ray.arrays import Float32, Int64, UInt64
from lgsid_ray.draws import below
from lgsid_ray.geo.points import PointGroups, point_xyz
from lgsid_ray.preference.districts import Districts

NEAREST = 8  # a hard negative is drawn among so many of the nearest, or of the most alike


class Embedded(NamedTuple):
    """Items with their embeddings."""

    items: Int64
    """(n,) item_index."""
    vectors: Float32
    """(n, dimension), L2-normalised."""


def just_outside(anchors: Int64, neighbours: Int64, near: PointGroups, districts: Districts, bits: UInt64) -> Int64:
    """An item of another district at one of the nearest points that have one.

    Args:
        anchors: (n,) item_index.
        neighbours: (n, ranks) positions in `near`, nearest first.
        near: the items around, grouped by point.
        bits: (n, 2) random bits: which point, which item.

    Where all given neighbours share the anchor's district, an item of the district whose centre is nearest.
    """
    lead = districts.code[near.items[near.starts[:-1]]]
    mixed = np.minimum.reduceat(districts.code[near.items], near.starts[:-1]) != np.maximum.reduceat(
        districts.code[near.items], near.starts[:-1]
    )
    elsewhere = (lead[neighbours] != districts.code[anchors][:, None]) | mixed[neighbours]
    seen = np.cumsum(elsewhere, axis=1)
    wanted = below(bits[:, 0], np.clip(seen[:, -1], 1, NEAREST)) + 1
    point = neighbours[np.arange(len(anchors)), np.argmax(seen >= wanted[:, None], axis=1)]
    item = near.items[near.starts[point] + below(bits[:, 1], near.sizes[point])]
    # A point on a border holds items of both sides: a draw of the anchor's own side falls back too.
    inside = districts.code[item] == districts.code[anchors]
    item[inside] = _of_nearest_district(anchors[inside], districts, bits[inside, 1])
    return item


def alike_outside(anchors: Embedded, pool: Embedded, districts: Districts, bits: UInt64) -> Int64:
    """An item of another district among those of the pool that resemble the anchor most; -1 where none is elsewhere.

    Args:
        bits: (anchors,) random bits.
    """
    similarity = anchors.vectors @ pool.vectors.T
    own = districts.code[anchors.items]
    similarity[own[:, None] == districts.code[pool.items][None, :]] = -np.inf
    kept = min(NEAREST, len(pool.items))
    best = np.argpartition(-similarity, kept - 1, axis=1)[:, :kept]
    order = np.lexsort((best, -np.take_along_axis(similarity, best, axis=1)), axis=-1)
    best = np.take_along_axis(best, order, axis=1)
    usable = np.isfinite(np.take_along_axis(similarity, best, axis=1)).sum(axis=1)
    chosen = pool.items[best[np.arange(len(own)), below(bits, np.maximum(usable, 1))]]
    return np.where(usable > 0, chosen, -1)


def _of_nearest_district(anchors: Int64, districts: Districts, bits: UInt64) -> Int64:
    if not len(anchors):
        return anchors
    near = cKDTree(districts.centre).query(point_xyz(districts.key[anchors]), k=[1, 2])[1]
    own = near[:, 0] == districts.code[anchors]
    return districts.member(np.where(own, near[:, 1], near[:, 0]), bits)
