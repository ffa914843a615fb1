"""Recommenders that only count prefixes of SIDs: what SIDs are worth, told before a model is trained on them.

An item is known by its SID alone. Prefixes of every length vote: the first tokens know much of little, the last little
of much, and random IDs nothing before the last.
"""

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lgsid_ray.arrays import AnyFloat, Float64, Int64
from lgsid_ray.artifacts.keys import prefix_numbers
from lgsid_ray.draws import random_bits
from lgsid_ray.recommend.generators.sequences import Sequences
from lgsid_ray.recommend.log import TRAIN
from lgsid_ray.recommend.rankers.samples import Samples

DEPTH = 5
"""Latest events of a history that vote for the next item."""
FADE = 0.6
"""Weight of each event's vote, relative to that of the one after it."""
PRIOR = 1.0
"""Visits that every item is given in advance, so that those without any can be told."""
PRIOR_SAMPLES = 20.0
"""Samples of the average kind that every prefix is given in advance of its own clicks."""
_CELLS = 1 << 24  # numbers held at once


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


class ClickRule:
    """P(click) by logistic regression on what histories and clicks say of a target's prefixes.

    A prefix of every length tells four numbers: the share of the history's events that have it, whether any has, the
    logarithm of how many, and the log odds of its training samples, shrunk by `PRIOR_SAMPLES` of the average kind. A
    training sample's odds are those of the other half of the training samples, so that no label explains itself.
    """

    def __init__(self, samples: Samples, tokens: Int64, length: int) -> None:
        """Fitted on the training samples, whose histories are read up to their `length` latest events.

        Args:
            tokens: (n, L) of the items.
        """
        self._samples, self._length, self._prefixes = samples, length, prefix_numbers(tokens)
        train = samples.of(TRAIN)
        half = random_bits(0, "count/half", train) % 2 == 0
        table = np.empty((len(train), 4 * tokens.shape[1]))
        for told, teller in ((half, ~half), (~half, half)):
            table[told] = self._features(train[told], train[teller])
        self._model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(
            table, samples.label[train]
        )

    def probabilities(self, rows: Int64) -> Float64:
        """(b,) of the samples `rows`."""
        return np.asarray(self._model.predict_proba(self._features(rows, self._samples.of(TRAIN)))[:, 1])

    def _features(self, rows: Int64, teller: Int64) -> Float64:
        """(b, 4 L) of the samples `rows`, whose prefixes' odds are counted on those of `teller`."""
        samples = self._samples
        overall = (samples.label[teller].sum() + 1) / (len(teller) + 2)
        odds = []
        for code in self._prefixes.T:
            of, size = code[samples.item[teller]], int(code.max()) + 1
            clicked = np.bincount(of, samples.label[teller], size) + PRIOR_SAMPLES * overall
            passed = np.bincount(of, 1 - samples.label[teller], size) + PRIOR_SAMPLES * (1 - overall)
            odds.append(np.log(clicked / passed))
        table = np.empty((len(rows), 4 * len(odds)))
        step = max(1, _CELLS // self._length)
        for begin in range(0, len(rows), step):
            some = rows[begin : begin + step]
            history, target = samples.histories(some, self._length), samples.item[some]
            inside = history >= 0
            events = np.maximum(inside.sum(axis=1), 1)
            columns = []
            for code, odd in zip(self._prefixes.T, odds, strict=True):
                alike = (inside & (code[history] == code[target][:, None])).sum(axis=1)
                columns += [alike / events, alike > 0, np.log1p(alike), odd[code[target]]]
            table[begin : begin + step] = np.column_stack(columns)
        return table


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
