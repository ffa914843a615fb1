"""Recommenders that only count prefixes of SIDs: what SIDs are worth, told before a model is trained on them.

An item is known by its SID alone. Prefixes of every length vote: the first tokens know much of little, the last little
of much, and random IDs nothing before the last.
"""

import numpy as np
from scipy import sparse

from lgsid_ray.arrays import AnyFloat, Float64, Int64
from lgsid_ray.artifacts.keys import prefix_numbers
from lgsid_ray.recommend.generators.sequences import Sequences

DEPTH = 5
"""Latest events of a history that vote for the next item."""
FADE = 0.6
"""Weight of each event's vote, relative to that of the one after it."""
PRIOR = 1.0
"""Visits that every item is given in advance, so that those without any can be told."""
_CELLS = 1 << 24  # scores held at once


def next_items(sequences: Sequences, positions: Int64, tokens: Int64, length: int) -> Int64:
    """(q, length) item_index, likeliest first, -1 where there are fewer items.

    P(c | h) ∝ Σ_j FADE^j Σ_l P(first l tokens of c | those of the j-th last event) · P(c | its first l tokens), each
    counted on training events.

    Args:
        positions: (q,) of the targets. tokens: (n, L).
    """
    seen, source, target = sequences.training()
    visits = np.bincount(seen, minlength=len(tokens)) + PRIOR
    history = sequences.histories(positions, DEPTH)
    levels = []
    for code in prefix_numbers(tokens).T:
        size = int(code.max()) + 1
        steps = sparse.csr_matrix((np.ones(len(source)), (code[source], code[target])), shape=(size, size))
        leaving = np.bincount(code[source], minlength=size)
        chance = sparse.diags(1.0 / np.maximum(leaving, 1)) @ steps
        levels.append((code, _votes(history, code, size) @ chance, visits / np.bincount(code, visits)[code]))
    lists = np.full((len(positions), length), -1)
    step = max(1, _CELLS // len(tokens))
    for begin in range(0, len(positions), step):
        score = np.zeros((min(step, len(positions) - begin), len(tokens)))
        for code, reached, within in levels:
            score += reached[begin : begin + step].toarray()[:, code] * within
        # What no vote reaches goes by popularity, behind all the rest.
        best = _largest(score + visits / visits.sum() * 1e-6, length)
        lists[begin : begin + step, : best.shape[1]] = best
    return lists


def affinity(history: Int64, target: Int64, tokens: Int64, visits: Int64) -> Float64:
    """(b,) how many bits of a target's SID its history shares, on average over the events.

    Sharing a prefix counts for as many bits as its share of the training events has.

    Args:
        history: (b, t) item_index, -1 behind its end. target: (b,). tokens: (n, L). visits: (n,) in training.
    """
    inside, shared = history >= 0, np.zeros(history.shape)
    weight, before = visits + PRIOR, np.zeros(len(tokens))
    for code in prefix_numbers(tokens).T:
        bits = -np.log2(np.bincount(code, weight)[code] / weight.sum())
        alike = inside & (code[history] == code[target][:, None])
        shared += np.where(alike, (bits - before)[target][:, None], 0.0)
        before = bits
    return np.asarray(shared.sum(axis=1) / np.maximum(inside.sum(axis=1), 1))


def _votes(history: Int64, code: Int64, size: int) -> sparse.csr_matrix:
    """(q, size) summed weights of the prefixes in each history."""
    row, place = np.nonzero(history >= 0)
    return sparse.csr_matrix((FADE**place, (row, code[history[row, place]])), shape=(len(history), size))


def _largest(score: AnyFloat, count: int) -> Int64:
    """(q, ≤ count) columns of the largest scores, best first; of equals the first column."""
    count = min(count, score.shape[1])
    most = np.sort(np.argpartition(-score, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(score, most, axis=1), axis=1, kind="stable")
    return np.take_along_axis(most, order, axis=1)
