"""Co-occurrence of items in histories (Eq 5): s(a, b) = Σ_u 1[a ∈ H_u and b ∈ H_u], as sparse sorted counts.

A pair a < b is one int64, a · items + b. Counts are sorted by pair and added up block by block; no matrix.
"""

from dataclasses import dataclass

import numpy as np

from lgsid_ray.arrays import Int64

CHUNK = 4_000_000  # pairs that are expanded at once


@dataclass(frozen=True)
class PairCounts:
    """Sparse s(a, b): `pairs` ascending and distinct, `counts` beside it."""

    pairs: Int64
    counts: Int64

    def take(self, rows: Int64) -> "PairCounts":
        """The given rows, which keep their order."""
        return PairCounts(self.pairs[rows], self.counts[rows])


def count_pairs(items: Int64, starts: Int64, catalogue_items: int) -> PairCounts:
    """s(a, b) over the histories `items[starts[u]:starts[u + 1]]`, whose items are distinct and ascending."""
    sizes = np.diff(starts)
    expanded = np.cumsum(sizes * (sizes - 1) // 2)
    runs, first = [], 0
    while first < len(sizes):
        done = expanded[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(expanded, done + CHUNK, side="right")))
        runs.append(_expand(items[starts[first] : starts[last]], sizes[first:last], catalogue_items))
        first = last
    return merge(runs)


def merge(runs: list[PairCounts]) -> PairCounts:
    """The sum of several counts."""
    if not runs:
        return PairCounts(np.empty(0, np.int64), np.empty(0, np.int64))
    pairs = np.concatenate([run.pairs for run in runs])
    counts = np.concatenate([run.counts for run in runs])
    order = np.argsort(pairs, kind="stable")
    pairs, counts = pairs[order], counts[order]
    first = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1])) if len(pairs) else np.empty(0, np.int64)
    return PairCounts(pairs[first], np.add.reduceat(counts, first) if len(first) else counts)


def count_threshold(values: Int64, frequency: Int64, quantile: float) -> int:
    """s_th at a quantile of the counts; pairs with s > s_th are kept.

    It stays below the largest count, so that the most co-visited pairs are kept even where most counts are equal.

    Args:
        values: distinct counts, ascending.
        frequency: number of pairs with each count.
    """
    share = np.cumsum(frequency) / frequency.sum()
    return min(int(values[np.searchsorted(share, quantile)]) if quantile > 0 else 0, int(values[-1]) - 1)


def _expand(items: Int64, sizes: Int64, catalogue_items: int) -> PairCounts:
    """All pairs of each history, counted: position j of a history pairs with the later positions."""
    end = np.repeat(np.cumsum(sizes), sizes)
    later = end - np.arange(len(items)) - 1
    left = np.repeat(np.arange(len(items)), later)
    offset = np.arange(len(left)) - np.repeat(np.cumsum(later) - later, later)
    pairs = items[left] * catalogue_items + items[left + 1 + offset]
    distinct, counts = np.unique(pairs, return_counts=True)
    return PairCounts(distinct, counts.astype(np.int64))
