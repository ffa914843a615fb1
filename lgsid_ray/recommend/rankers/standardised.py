"""Numbers that rankers are told of a sample: standardised in training, counted without the sample's own users."""

from abc import ABC, abstractmethod
from copy import copy
from typing import Self

import numpy as np

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.recommend.folds import FOLDS, folds
from lgsid_ray.recommend.log import TRAIN
from lgsid_ray.recommend.rankers.samples import Samples

_MEASURED = 20_000
"""Training samples that mean and deviation are taken of."""


class Standardised(ABC):
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
