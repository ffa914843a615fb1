"""What a training loop draws on: rows in a seeded order, and the tensors behind them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lgsid_ray.arrays import Int64
from lgsid_ray.draws import random_bits
from lgsid_ray.recommend.generators.sequences import Sequences
from lgsid_ray.recommend.rankers.samples import Samples


class Batches(Protocol):
    """Training and validation rows, and the batch that stands behind any of them."""

    @property
    def train(self) -> Int64: ...

    @property
    def valid(self) -> Int64: ...

    def batch(self, rows: Int64) -> tuple[Tensor, ...]:
        """What the members of the panel take as `loss(*batch)`."""


@dataclass(frozen=True)
class RankBatches:
    """(target, history, label) of ranking samples."""

    samples: Samples
    length: int
    """Of a history, in items."""
    train: Int64
    valid: Int64

    def batch(self, rows: Int64) -> tuple[Tensor, ...]:
        """(b,) int64, (b, length) int64, (b,) float32."""
        found = (self.samples.item[rows], self.samples.histories(rows, self.length), self.samples.label[rows])
        return tuple(map(torch.from_numpy, found))


@dataclass(frozen=True)
class GenerateBatches:
    """(history, target) of positions in sequences."""

    sequences: Sequences
    length: int
    train: Int64
    valid: Int64

    def batch(self, rows: Int64) -> tuple[Tensor, ...]:
        """(b, length) int64, (b,) int64."""
        found = (self.sequences.histories(rows, self.length), self.sequences.item[rows])
        return tuple(map(torch.from_numpy, found))


def order(rows: Int64, seed: int, epoch: int) -> Int64:
    """The rows of an epoch, shuffled: a function of seed and epoch alone, the same on every worker."""
    return rows[np.argsort(random_bits(seed, "recommend/order", rows, epoch), kind="stable")]
