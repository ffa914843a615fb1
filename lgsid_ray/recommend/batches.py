"""What a training loop draws on: rows in a seeded order, and the tensors behind them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lgsid_ray.draws import words
from lgsid_ray.recommend.ctr.samples import Samples
from lgsid_ray.recommend.generative.sequences import Sequences

Integers = NDArray[np.int64]


class Batches(Protocol):
    """Training and validation rows, and the batch that stands behind any of them."""

    @property
    def train(self) -> Integers: ...

    @property
    def valid(self) -> Integers: ...

    def batch(self, rows: Integers) -> tuple[Tensor, ...]:
        """What the members of the panel take as `loss(*batch)`."""


@dataclass(frozen=True)
class RankBatches:
    """(target, history, label) of ranking samples."""

    samples: Samples
    length: int
    """Of a history, in items."""
    train: Integers
    valid: Integers

    def batch(self, rows: Integers) -> tuple[Tensor, ...]:
        """(b,) int64, (b, length) int64, (b,) float32."""
        found = (self.samples.item[rows], self.samples.histories(rows, self.length), self.samples.label[rows])
        return tuple(map(torch.from_numpy, found))


@dataclass(frozen=True)
class GenerateBatches:
    """(history, target) of positions in sequences."""

    sequences: Sequences
    length: int
    train: Integers
    valid: Integers

    def batch(self, rows: Integers) -> tuple[Tensor, ...]:
        """(b, length) int64, (b,) int64."""
        found = (self.sequences.histories(rows, self.length), self.sequences.item[rows])
        return tuple(map(torch.from_numpy, found))


def order(rows: Integers, seed: int, epoch: int) -> Integers:
    """The rows of an epoch, shuffled: a function of seed and epoch alone, the same on every worker."""
    return rows[np.argsort(words(seed, "recommend/order", rows, epoch), kind="stable")]
