"""What is clicked after what: of items, of their kinds, and of prefixes of their SIDs."""

import numpy as np

from lgsid_ray.arrays import AnyInt, Float32, Float64, Int64
from lgsid_ray.recommend.folds import FOLDS, without_each
from lgsid_ray.recommend.log import TRAIN
from lgsid_ray.recommend.rankers.samples import Samples

CLICKS, PASSES = 2.0, 8.0
"""Samples that a target, or a kind of target, is given in advance."""
_USUAL = 20.0  # samples that a pair of kinds is given in advance, clicked as often as its second kind


class Follows:
    """How much likelier than usual a target of one kind is clicked right after an event of another.

    The log odds of a click given both kinds, less those given the target's; both of training samples, shrunk.

    Args:
        fold: (s,) of every sample.
        kind: (n,) of every item, or -1; what is of no kind follows, and is followed, as usual.
    """

    def __init__(self, samples: Samples, fold: AnyInt, kind: AnyInt) -> None:
        self._kind, self._kinds = kind.astype(np.int64), int(kind.max(initial=-1)) + 1
        rows = samples.of(TRAIN)
        pair = self._pairs(samples, rows)
        rows, pair = rows[pair >= 0], pair[pair >= 0]
        self._pair, which = np.unique(pair, return_inverse=True)
        label, second = samples.label[rows] > 0, self._pair % max(self._kinds, 1)

        def counted(group: Int64, size: int) -> tuple[Float64, Float64]:
            """(FOLDS + 1, size) clicks and samples of groups, without each fold and of all."""
            place, shape = fold[rows].astype(np.int64) * size + group, (FOLDS, size)
            counts = (np.bincount(place[some], minlength=FOLDS * size).reshape(shape) for some in (label, slice(None)))
            clicks, total = (without_each(one).astype(np.float64) for one in counts)
            return clicks, total

        clicks, total = counted(second[which], self._kinds)
        usual = ((clicks + CLICKS) / (total + CLICKS + PASSES))[:, second]
        clicks, total = counted(which, len(self._pair))
        rate = (clicks + _USUAL * usual) / (total + _USUAL)
        odds = np.log(rate / (1 - rate)) - np.log(usual / (1 - usual))
        self._odds = np.column_stack([odds, np.zeros(FOLDS + 1)]).astype(np.float32)

    def of(self, samples: Samples, rows: Int64, told_by: Int64) -> Float32:
        """(b,) of samples; 0 without a history or a kind, and for what never followed."""
        pair = self._pairs(samples, rows)
        place = np.searchsorted(self._pair, pair)
        there = (place < len(self._pair)) & (pair >= 0)
        there[there] = self._pair[place[there]] == pair[there]
        return self._odds[told_by, np.where(there, place, len(self._pair))]

    def _pairs(self, samples: Samples, rows: Int64) -> Int64:
        """(b,) numbers of (kind of the latest event, kind of the target); -1 where either is missing."""
        last = samples.histories(rows, 1)[:, 0]
        first, second = np.where(last >= 0, self._kind[last], -1), self._kind[samples.item[rows]]
        return np.where((first >= 0) & (second >= 0), first * self._kinds + second, -1)
