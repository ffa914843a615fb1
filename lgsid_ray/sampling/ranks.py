"""Which neighbour ranks become negatives (density-aware sampling, Eq 1), and uniform draws beside them."""

import numpy as np

from lgsid_ray.arrays import Int64
from lgsid_ray.draws import below, random_bits
from lgsid_ray.geo.points import PointGroups


def strata(count: int, max_rank: int) -> Int64:
    """First and last rank of each of `count` log-spaced strata that cover 1..max_rank, (count, 2).

    The strata grow geometrically, so the draws are heavy near the anchor and reach max_rank; each holds at least
    one rank of its own, so a list has no rank twice.

    Raises:
        ValueError: fewer ranks than strata.
    """
    if max_rank < count:
        raise ValueError(f"{count} strata need at least as many ranks, not {max_rank}")
    last = np.rint(max_rank ** (np.arange(1, count + 1) / count)).astype(np.int64)
    for j in range(1, count):
        last[j] = max(last[j], last[j - 1] + 1)
    first = np.concatenate([[1], last[:-1] + 1])
    return np.stack([first, last], axis=1)


def draw_ranks(seed: int, anchors: Int64, count: int, max_rank: int) -> Int64:
    """Neighbour ranks of each anchor's negatives, ascending, (anchors, count).

    With fewer than `count` ranks (a catalogue with few points) all of them are used, some several times.
    """
    if max_rank < count:
        spread = np.ceil(np.arange(1, count + 1) * max_rank / count).astype(np.int64)
        return np.broadcast_to(spread, (len(anchors), count))
    first, last = strata(count, max_rank).T
    bits = random_bits(seed, "rank", anchors[:, None], np.arange(count)[None, :])
    return first + below(bits, last - first + 1)


def draw_items(seed: int, anchors: Int64, points: Int64, gathered: PointGroups) -> Int64:
    """One item at each point, uniformly among the point's items; `points` is (anchors, count) positions."""
    bits = random_bits(seed, "item", anchors[:, None], np.arange(points.shape[1])[None, :])
    return gathered.items[gathered.starts[points] + below(bits, gathered.sizes[points])]


def draw_uniform(seed: int, anchors: Int64, count: int, total: int, start: Int64, size: Int64) -> Int64:
    """Positions in 0..total-1 drawn uniformly outside each anchor's own block start..start+size-1.

    The block is the run of items at the anchor's own point; draws are independent. Returns (anchors, count).
    """
    bits = random_bits(seed, "uniform", anchors[:, None], np.arange(count)[None, :])
    drawn = below(bits, (total - size)[:, None])
    return np.where(drawn >= start[:, None], drawn + size[:, None], drawn)
