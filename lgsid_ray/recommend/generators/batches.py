"""What a generator sees: tensors by name, of which only those are made that some model needs."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lgsid_ray.arrays import Float32, Int64
from lgsid_ray.recommend.batches import made
from lgsid_ray.recommend.generators.candidates import Candidates, Suggested
from lgsid_ray.recommend.generators.sequences import Sequences
from lgsid_ray.recommend.log import TRAIN


class GenerateBatch(NamedTuple):
    """Targets by named fields; one that no model of the panel needs is None, so that reading it fails.

    A new field is a line here and a method of the same name in `GenerateBatches`.
    """

    history: Tensor = None  # type: ignore[assignment]
    """(b, t) int64 item_index, latest first, -1 behind its end."""
    target: Tensor = None  # type: ignore[assignment]
    """(b,) int64 item_index."""
    weight: Tensor = None  # type: ignore[assignment]
    """(b,) float32 of a target in the loss: of training ones 1 on average, and less by the root of how many its user
    has, so that a few busy users do not decide what holds for all; of others 1."""
    suggested: Suggested[Tensor] = None  # type: ignore[assignment]
    """What the histories suggest."""


@dataclass(frozen=True)
class GenerateBatches:
    """The positions of training and validation, and the batch behind any positions of the sequences."""

    sequences: Sequences
    length: int
    """Of a history, in items."""
    needs: frozenset[str]
    """Names of the fields that are made."""
    train: Int64
    valid: Int64
    candidates: Candidates | None
    """Where a model needs what is suggested."""
    discovery: bool = False
    """Suggest nothing that the history holds."""

    def batch(self, rows: Int64) -> GenerateBatch:
        """The targets at the positions `rows`."""
        return made(GenerateBatch, self.needs, self, rows)

    def history(self, rows: Int64) -> Int64:
        """See `GenerateBatch`, as for the methods below."""
        return self.sequences.histories(rows, self.length)

    def target(self, rows: Int64) -> Int64:
        return self.sequences.item[rows]

    def weight(self, rows: Int64) -> Float32:
        user = self.sequences.user[rows]
        training = self.sequences.split[rows] == TRAIN
        return np.where(training, self._user_weight[user], 1).astype(np.float32)

    @cached_property
    def _user_weight(self) -> Float32:
        """By user."""
        user = self.sequences.user
        targets = np.bincount(user[self.train], minlength=int(user.max(initial=0)) + 1)
        roots = np.sqrt(targets)
        return (len(self.train) / roots.sum() / np.maximum(roots, 1)).astype(np.float32)

    def suggested(self, rows: Int64) -> Suggested[np.ndarray]:
        assert self.candidates is not None
        return self.candidates.suggest(rows, self.discovery)
