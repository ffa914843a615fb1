"""What a ranker sees of its samples: tensors by name, of which only those are made that some model needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.draws import below, random_bits
from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.recommend.batches import made
from lgsid_ray.recommend.rankers.alike import Alike
from lgsid_ray.recommend.rankers.facts import Facts
from lgsid_ray.recommend.rankers.samples import Samples


class RankBatch(NamedTuple):
    """Samples by named fields; one that no model of the panel needs is None, so that reading it fails.

    A new field is a line here and a method of the same name in `RankBatches`.
    """

    target: Tensor = None  # type: ignore[assignment]
    """(b,) int64 item_index."""
    history: Tensor = None  # type: ignore[assignment]
    """(b, t) int64 item_index, latest first, -1 behind its end."""
    passed: Tensor = None  # type: ignore[assignment]
    """(b, t) int64 item_index beside each event of the history: of a training click drawn from all, whoever's it is."""
    long: Tensor = None  # type: ignore[assignment]
    """(b, l) int64 item_index of a longer history, as `history`, for models that search it."""
    gap: Tensor = None  # type: ignore[assignment]
    """(b, l) float32 seconds from each event of `long` to the sample; 0 on padding and without times."""
    km: Tensor = None  # type: ignore[assignment]
    """(b, l) float32 great-circle distance of the target to each item of `long`; 0 on padding and without
    coordinates."""
    facts: Tensor = None  # type: ignore[assignment]
    """(b, len(FACTS)) float32, see `facts.FACTS`."""
    alike: Tensor = None  # type: ignore[assignment]
    """(b, w) float32 of all SIDs that the panel's models read, side by side, see `alike.Alike`; w may be 0."""
    label: Tensor = None  # type: ignore[assignment]
    """(b,) float32, 0 or 1."""


@dataclass(frozen=True)
class RankBatches:
    """The rows of training and validation, and the batch behind any rows of the samples."""

    samples: Samples
    told: Facts
    matched: Sequence[Alike]
    """Of the SIDs that models read."""
    xyz: Float64 | None
    """(n, 3) unit-sphere points of the items."""
    length: int
    """Of a history, in items."""
    long_length: int
    """Of the one that is searched."""
    seed: int
    needs: frozenset[str]
    """Names of the fields that are made."""
    train: Int64
    valid: Int64

    def batch(self, rows: Int64) -> RankBatch:
        """The samples `rows`."""
        return made(RankBatch, self.needs, self, rows)

    def target(self, rows: Int64) -> Int64:
        """See `RankBatch`, as for the methods below."""
        return self.samples.item[rows]

    def history(self, rows: Int64) -> Int64:
        return self.samples.histories(rows, self.length)

    def passed(self, rows: Int64) -> Int64:
        clicks = self._clicks
        bits = random_bits(self.seed, "rank/passed", rows[:, None], np.arange(self.length))
        return clicks[below(bits, len(clicks))]

    def long(self, rows: Int64) -> Int64:
        return self.samples.histories(rows, self.long_length)

    def gap(self, rows: Int64) -> Float32:
        return self.samples.gaps(rows, self.long_length)

    def km(self, rows: Int64) -> Float32:
        history = self.long(rows)
        if self.xyz is None:
            return np.zeros(history.shape, dtype=np.float32)
        chord = np.linalg.norm(self.xyz[history] - self.xyz[self.target(rows)][:, None], axis=-1)
        return np.where(history >= 0, chord_to_km(chord), 0.0).astype(np.float32)

    def facts(self, rows: Int64) -> Float32:
        return self.told.of(rows)

    def alike(self, rows: Int64) -> Float32:
        none = np.zeros((len(rows), 0), dtype=np.float32)
        return np.concatenate([none, *(each.of(rows) for each in self.matched)], axis=1)

    def label(self, rows: Int64) -> Float32:
        return self.samples.label[rows]

    @property
    def events(self) -> int:
        """Events of a sample's widest field: what memory is counted by."""
        return self.long_length if "long" in self.needs else self.length

    @cached_property
    def _clicks(self) -> Int64:
        return self.samples.item[self.train[self.samples.label[self.train] > 0]]
