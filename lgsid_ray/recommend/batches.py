"""What a training loop draws on: rows in a seeded order, and the named tensors behind them."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lgsid_ray.arrays import Int64
from lgsid_ray.draws import random_bits

_Batch = TypeVar("_Batch")  # a NamedTuple of tensors


class Batches(Protocol):
    """Training and validation rows, and the batch that stands behind any of them."""

    @property
    def train(self) -> Int64: ...

    @property
    def valid(self) -> Int64: ...

    def batch(self, rows: Int64) -> Any:
        """A NamedTuple of tensors: the family's own, with the fields that its models need."""


def made(kind: Callable[..., _Batch], needs: Iterable[str], maker: Any, rows: Int64) -> _Batch:
    """A batch with the fields `needs`, each by the maker's method of that name: `(rows) -> array`, or a NamedTuple."""
    fields: dict[str, Callable[[Int64], Any]] = {name: getattr(maker, name) for name in needs}
    return kind(**{name: _each(torch.from_numpy, field(rows)) for name, field in fields.items()})


def moved(batch: Any, device: torch.device) -> Any:
    """The batch on a device."""
    return _each(lambda tensor: tensor.to(device), batch)


def _each(change: Callable[[Any], Tensor], field: Any) -> Any:
    """A field, or all fields of a NamedTuple, changed; what was not made stays None."""
    if isinstance(field, tuple):
        return type(field)(*(_each(change, part) for part in field))
    return None if field is None else change(field)


def order(rows: Int64, seed: int, epoch: int) -> Int64:
    """The rows of an epoch, shuffled: a function of seed and epoch alone, the same on every worker."""
    return rows[np.argsort(random_bits(seed, "recommend/order", rows, epoch), kind="stable")]
