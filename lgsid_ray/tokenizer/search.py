"""From what levels work on to tokens: the nearest code at every level, or the best of many prefixes followed at once.

What a SID costs is the squared residual behind its last level and the prices of its codes. The nearest code at every
level need not begin the cheapest SID; a beam search keeps several prefixes (Babenko and Lempitsky, 2014, of additive
codes). Either way an item's tokens are a function of that item alone, whatever else is in the batch. No Ray here.
"""

from collections.abc import Sequence

import numpy as np

from lgsid_ray.arrays import Float32, Float64, Int32, Int64
from lgsid_ray.tokenizer.assign import BLOCK, Codes, directions
from lgsid_ray.tokenizer.levels import Level


def tokens_of(levels: Sequence[Level], embeddings: Float32, features: Float32 | None = None, beam: int = 1) -> Int32:
    """(n, L) tokens of n items (Eq 10-12).

    Args:
        embeddings: (n, d). features: (n, f) of the same items; read by levels in that space only.
        beam: prefixes that are kept behind a level; 1: the nearest code's alone, as `levels.walk` goes. Up to the
            last level by features or by angle, whose costs are no squared residuals, it is the nearest code's alone.
    """
    codes = [Codes(level.codebook, level.price) for level in levels]
    tokens = np.empty((len(embeddings), len(levels)), np.int32)
    nearest = len(levels) if beam == 1 else _first_searched(levels)
    # Some rows down all levels, while what is left of them lies in a core's cache.
    step = max(1, BLOCK // beam)
    for start in range(0, len(tokens), step):
        here = slice(start, start + step)
        left = embeddings[here]
        for number, (level, ready) in enumerate(zip(levels[:nearest], codes, strict=False)):
            rows = left
            if level.space == "features":
                assert features is not None, "a level in the space of features needs features"
                rows = features[here]
            rows = directions(rows) if level.metric == "cosine" else rows
            label = ready.labels(rows, ready.scores(rows))
            tokens[here, number] = label
            if number + 1 < len(levels):
                left = left - level.centres[label]
        if nearest < len(levels):
            tokens[here, nearest:] = _best_of_beam(codes[nearest:], left, beam)
    return tokens


def _first_searched(levels: Sequence[Level]) -> int:
    """The first level from which on all compare residuals by their distance."""
    other = [n for n, level in enumerate(levels) if level.space == "features" or level.metric == "cosine"]
    return other[-1] + 1 if other else 0


def _best_of_beam(codes: Sequence[Codes], rows: Float32, beam: int) -> Int32:
    """(n, l) tokens of the cheapest of the prefixes that a beam has kept, for a block of (n, d) rows."""
    left, paid = rows[:, None, :], np.zeros((len(rows), 1))
    tokens = np.empty((len(rows), 1, 0), np.int32)
    every = np.arange(len(rows))[:, None]
    for number, ready in enumerate(codes):
        width = 1 if number == len(codes) - 1 else beam
        came, code = np.divmod(_cheapest(ready, left, paid, width), ready.size)
        left = left[every, came] - ready.centroids[code]
        paid = paid[every, came] + ready.price[code]
        tokens = np.concatenate([tokens[every, came], code[:, :, None].astype(np.int32)], axis=2)
    return tokens[:, 0]


def _cheapest(ready: Codes, left: Float32, paid: Float64, width: int) -> Int64:
    """(n, ≤ width) which of the (w · k) ways on, from each of w prefixes to each of k codes, cost least; ascending.

    As in `Codes.labels`, what products cannot tell apart is settled by differences in float64; of equals the first.
    """
    (n, w, d), k = left.shape, ready.size
    flat = np.ascontiguousarray(left).reshape(n * w, d)
    norm = np.square(flat, dtype=np.float64).sum(axis=1)[:, None]
    cost = (norm - 2.0 * ready.scores(flat)).reshape(n, w, k) + paid[:, :, None]
    cost, width = cost.reshape(n, w * k), min(width, w * k)
    # Twice a score's error is a cost's; once for the last that is kept, once for what it is compared with.
    slack = 4.0 * ready.rounding(flat).reshape(n, w).max(axis=1)
    near = cost <= (np.partition(cost, width - 1, axis=1)[:, width - 1] + slack)[:, None]
    for row in np.flatnonzero(near.sum(axis=1) > width):
        way = np.flatnonzero(near[row])
        came, code = np.divmod(way, k)
        apart = left[row, came].astype(np.float64) - ready.centroids[code]
        exact = np.square(apart).sum(axis=1) + paid[row, came] + ready.price[code]
        near[row, way[np.argsort(exact, kind="stable")[width:]]] = False
    return np.nonzero(near)[1].reshape(n, width)
