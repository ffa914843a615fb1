"""Hard opponents i-: items just outside the anchor's location, and items elsewhere that resemble the anchor."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lgsid_ray.draws import Words, below
from lgsid_ray.geo.locations import Locations
from lgsid_ray.geo.places import Gathered, Integers, place_xyz

NEAREST = 8  # an opponent is drawn among so many of the nearest, or of the most alike


def just_outside(
    anchors: Integers, neighbours: Integers, near: Gathered, locations: Locations, bits: Words
) -> Integers:
    """An item of another location at one of the nearest places that have one.

    Args:
        anchors: (n,) item_index.
        neighbours: (n, ranks) positions in `near`, nearest first.
        near: the items around, grouped by place.
        bits: (n, 2) random words: which place, which item.

    Where all given neighbours share the anchor's location, an item of the location whose centre is nearest.
    """
    lead = locations.code[near.items[near.starts[:-1]]]
    mixed = np.minimum.reduceat(locations.code[near.items], near.starts[:-1]) != np.maximum.reduceat(
        locations.code[near.items], near.starts[:-1]
    )
    elsewhere = (lead[neighbours] != locations.code[anchors][:, None]) | mixed[neighbours]
    seen = np.cumsum(elsewhere, axis=1)
    wanted = below(bits[:, 0], np.clip(seen[:, -1], 1, NEAREST)) + 1
    place = neighbours[np.arange(len(anchors)), np.argmax(seen >= wanted[:, None], axis=1)]
    item = near.items[near.starts[place] + below(bits[:, 1], near.sizes[place])]
    # A place on a border holds items of both sides: a draw of the anchor's own side falls back too.
    inside = locations.code[item] == locations.code[anchors]
    item[inside] = _of_nearest_location(anchors[inside], locations, bits[inside, 1])
    return item


def alike_outside(
    anchors: Integers,
    vectors: NDArray[np.float32],
    pool: Integers,
    pool_vectors: NDArray[np.float32],
    locations: Locations,
    bits: Words,
) -> Integers:
    """An item of another location among those of the pool that resemble the anchor most; -1 where none is elsewhere.

    Args:
        anchors: (n,) item_index; `vectors` their (n, d) embeddings, L2-normalised.
        pool: (p,) item_index of candidates; `pool_vectors` their (p, d) embeddings, L2-normalised.
    """
    similarity = vectors @ pool_vectors.T
    similarity[locations.code[anchors][:, None] == locations.code[pool][None, :]] = -np.inf
    kept = min(NEAREST, len(pool))
    best = np.argpartition(-similarity, kept - 1, axis=1)[:, :kept]
    order = np.lexsort((best, -np.take_along_axis(similarity, best, axis=1)), axis=-1)
    best = np.take_along_axis(best, order, axis=1)
    usable = np.isfinite(np.take_along_axis(similarity, best, axis=1)).sum(axis=1)
    chosen = pool[best[np.arange(len(anchors)), below(bits, np.maximum(usable, 1))]]
    return np.where(usable > 0, chosen, -1)


def _of_nearest_location(anchors: Integers, locations: Locations, bits: Words) -> Integers:
    if not len(anchors):
        return anchors
    near = cKDTree(locations.centre).query(place_xyz(locations.key[anchors]), k=[1, 2])[1]
    own = near[:, 0] == locations.code[anchors]
    return locations.member(np.where(own, near[:, 1], near[:, 0]), bits)
