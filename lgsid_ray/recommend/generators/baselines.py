"""Trivial recommenders that every generator must beat: popularity, own history, Markov, near-and-popular."""

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.recommend.generators.sequences import Sequences

NEAR = 100
"""Near-and-popular ranks so many nearest items of the last visited one."""


def recommend(sequences: Sequences, positions: Int64, items: int, xyz: Float64 | None, length: int) -> dict[str, Int64]:
    """Lists of every baseline for the same targets over the whole catalogue, by name; (q, length) item_index.

    Popularity and transitions count training events only; own history is all that precedes the target. A list that
    a baseline cannot fill goes on with the most popular items.

    Args:
        xyz: (items, 3) unit-sphere points of the items; without them near-and-popular is left out.
    """
    seen, source, target = sequences.training()
    popular = np.bincount(seen, minlength=items)
    last = sequences.item[positions - 1]
    order = np.lexsort((np.arange(items), -popular))
    own = [_own(sequences, int(position), length) for position in positions]
    found = {
        "popularity": np.tile(order[:length], (len(positions), 1)),
        "own_history": _filled(own, order, length),
        "markov": _filled(_markov(source, target, last, popular, length), order, length),
    }
    if xyz is not None:
        found["near_and_popular"] = _filled(list(_near(xyz, last, popular, length)), order, length)
    return {name: _pad(lists, length) for name, lists in found.items()}


def _own(sequences: Sequences, position: int, length: int) -> Int64:
    """The user's items before the target, most frequent first, ties by the latest visit."""
    before = sequences.item[sequences.start[position] : position]
    item, latest, count = np.unique(before[::-1], return_index=True, return_counts=True)
    return item[np.lexsort((latest, -count))][:length]


def _markov(source: Int64, target: Int64, last: Int64, popular: Int64, length: int) -> list[Int64]:
    """What followed the last item most often in training; ties by popularity."""
    size = len(popular)
    counts = sparse.csr_matrix((np.ones(len(source)), (source, target)), shape=(size, size))
    counts.sum_duplicates()
    lists = []
    for item in last:
        span = slice(counts.indptr[item], counts.indptr[item + 1])
        follower, count = counts.indices[span].astype(np.int64), counts.data[span]
        lists.append(follower[np.lexsort((follower, -popular[follower], -count))][:length])
    return lists


def _near(xyz: Float64, last: Int64, popular: Int64, length: int) -> Int64:
    """Of the `NEAR` nearest items of the last one, those with most visits per (1 + km); ties by distance."""
    chord, near = cKDTree(xyz).query(xyz[last], k=np.arange(1, min(NEAR, len(xyz)) + 1))
    best = np.argsort(-popular[near] / (1 + chord_to_km(chord)), axis=1, kind="stable")[:, :length]
    return np.take_along_axis(near, best, axis=1)


def _filled(lists: list[Int64], order: Int64, length: int) -> Int64:
    """Lists completed by `order`, without repeating an item."""
    filled = np.full((len(lists), min(length, len(order))), -1)
    spare = order[: 2 * length]
    for row, found in enumerate(lists):
        rest = spare[~np.isin(spare, found)]
        filled[row] = np.concatenate([found, rest])[: filled.shape[1]]
    return filled


def _pad(lists: Int64, length: int) -> Int64:
    """Lists of a catalogue smaller than `length`, completed with -1."""
    return np.pad(lists, ((0, 0), (0, length - lists.shape[1])), constant_values=-1)
