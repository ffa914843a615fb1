"""What a generator sees: tensors by name, of which only those are made that some model needs."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lgsid_ray.arrays import Int64
from lgsid_ray.recommend.batches import made
from lgsid_ray.recommend.generators.candidates import Candidates, Suggested
from lgsid_ray.recommend.generators.sequences import Sequences


class GenerateBatch(NamedTuple):
    """Targets by named fields; one that no model of the panel needs is None, so that reading it fails.

    A new field is a line here and a method of the same name in `GenerateBatches`.
    """

    history: Tensor = None  # type: ignore[assignment]
    """(b, t) int64 item_index, latest first, -1 behind its end."""
    target: Tensor = None  # type: ignore[assignment]
    """(b,) int64 item_index."""
    session: Tensor = None  # type: ignore[assignment]
    """(b, SESSION) int64 item_index of the target and of what follows it in the same split, -1 behind the end."""
    closing: Tensor = None  # type: ignore[assignment]
    """(b,) bool: with these targets and what their histories hold of the same split, every event is met once."""
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

    def session(self, rows: Int64) -> Int64:
        return self.sequences.sessions(rows)

    def closing(self, rows: Int64) -> np.ndarray:
        return self.sequences.closing(rows, self.length)

    def suggested(self, rows: Int64) -> Suggested[np.ndarray]:
        assert self.candidates is not None
        return self.candidates.suggest(rows, self.discovery)
