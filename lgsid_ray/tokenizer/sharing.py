"""The last level, shared out: the items of a prefix divide its codes among them, so that SIDs are unique. No Ray.

A prefix of k codes has k seats. Where more items chose it, those that lose least by it take the token before from the
next best that has seats left; then every prefix gives its seats away at the least total error (linear assignment).
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from lgsid_ray.arrays import Float32, Float64, Int32
from lgsid_ray.tokenizer.levels import Level


def shared_levels(levels: Sequence[Level]) -> int:
    """How many of the last tokens sharing may change; the first level, which may go by features, never moves."""
    return min(2, len(levels) - 1)


def share_out(levels: Sequence[Level], left: Float32, tokens: Int32) -> Int32:
    """(n, m) last tokens of n items that have all tokens before in common, none of them twice where the codes suffice.

    Where they do not, no SID has more items than it must: ⌈n / codes⌉.

    Args:
        levels: the last m, one or two. left: (n, d) what the levels before them have left.
        tokens: (n, m) as chosen; an item keeps its own where nobody else has them. Of items alike the earlier rows
            are served first.
    """
    shared, last = tokens.copy(), levels[-1]
    if len(levels) == 1:
        return _seated(left, last, shared)
    rounds = -(-len(left) // (levels[0].size * last.size))
    shared[:, 0] = _placed(left, levels[0], shared[:, 0], rounds * last.size)
    behind = left - levels[0].centres[shared[:, 0]]
    moved = shared[:, 0] != tokens[:, 0]
    shared[moved, 1] = _squares(behind[moved], last.centres).argmin(axis=1)
    for code in np.unique(shared[:, 0]):
        rows = np.flatnonzero(shared[:, 0] == code)
        shared[rows, 1:] = _seated(behind[rows], last, shared[rows, 1:])
    return shared


def _placed(left: Float32, level: Level, chosen: Int32, seats: int) -> Int32:
    """(n,) tokens of the level before the last, none of them more than `seats` times; seats suffice for all."""
    placed = chosen.astype(np.int64)
    if np.bincount(placed, minlength=level.size).max() <= seats:
        return chosen
    cost = _squares(left, level.centres)
    open_ = np.ones(level.size, dtype=bool)
    while True:
        held = np.bincount(placed, minlength=level.size)
        crowded = np.flatnonzero(held > seats)
        if not len(crowded):
            return placed.astype(chosen.dtype)
        open_ &= held < seats
        for code in crowded:
            rows = np.flatnonzero(placed == code)
            elsewhere = np.where(open_, cost[rows], np.inf)
            loss = elsewhere.min(axis=1) - cost[rows, code]
            leaving = np.argsort(-loss, kind="stable")[seats:]
            placed[rows[leaving]] = elsewhere[leaving].argmin(axis=1)


def _seated(left: Float32, level: Level, chosen: Int32) -> Int32:
    """(n, 1) tokens of the last level for the items of one prefix; of more items than codes, as many at a time."""
    if len(np.unique(chosen)) == len(chosen):
        return chosen
    cost, seated = _squares(left, level.centres), np.empty_like(chosen)
    for start in range(0, len(left), level.size):
        rows, seats = linear_sum_assignment(cost[start : start + level.size])
        seated[start + rows, 0] = seats
    return seated


def _squares(rows: Float32, centres: Float32) -> Float64:
    """(n, k) squared distances, up to a constant of each row."""
    exact = centres.astype(np.float64)
    return np.square(exact).sum(axis=1) - 2.0 * rows.astype(np.float64) @ exact.T
