"""Numbers that rankers are told of a sample: standardised in training, counted without the sample's own users."""

from abc import ABC, abstractmethod
from copy import copy
from typing import Self

import numpy as np

from lgsid_ray.arrays import AnyInt, Float32, Float64, Int64
from lgsid_ray.recommend.folds import FOLDS, folds, without_each
from lgsid_ray.recommend.log import TRAIN
from lgsid_ray.recommend.rankers.samples import Samples

CLICKS, PASSES = 2.0, 8.0
"""Samples that a target, or a kind of target, is given in advance."""
_USUAL = 20.0  # samples that a pair of kinds is given in advance, clicked as often as its second kind
_MEASURED = 20_000
"""Training samples that mean and deviation are taken of."""


class Told(ABC):
    """Columns of numbers, each less its mean and over its deviation in training; one that never varies is 0.

    Training users are dealt into folds; a training sample is told what the users of other folds have done.

    Args:
        length: latest events of a history that are looked at.
    """

    width: int

    def __init__(self, samples: Samples, length: int, seed: int) -> None:
        self._samples, self._length = samples, length
        self._fold = folds(seed, "rank/folds", samples.user).astype(np.int8)

    @abstractmethod
    def _raw(self, rows: Int64) -> Float64:
        """(b, width) before they are standardised."""

    def _settle(self) -> None:
        """Measure mean and deviation; the last thing in a constructor."""
        train = self._samples.of(TRAIN)
        measured = self._raw(train[:: max(1, len(train) // _MEASURED)])
        self._mean, deviation = measured.mean(axis=0), measured.std(axis=0)
        self._scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0.0)

    def of(self, rows: Int64) -> Float32:
        """(b, width) of the samples `rows`, within five deviations."""
        return np.clip((self._raw(rows) - self._mean) * self._scale, -5, 5).astype(np.float32)

    def over(self, samples: Samples) -> Self:
        """The same of other samples, none of them a training one, by what these have counted and measured."""
        found = copy(self)
        found._samples, found._fold = samples, np.full(len(samples), FOLDS, dtype=np.int8)
        return found

    def _told_by(self, rows: Int64) -> Int64:
        """(b,) whose counts samples are told: of all folds but their own, or FOLDS: of all."""
        return np.where(self._samples.split[rows] == TRAIN, self._fold[rows], FOLDS).astype(np.int64)


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
