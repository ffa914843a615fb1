"""Several models trained side by side on the same batches: one start-up, one pass over the data, paired results."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Losses = dict[str, Tensor]
"""The scalars whose sum a model minimises, by name; by the first it is judged, the others help it to learn."""


class Panel(nn.Module):
    """Models that share no parameter, no bound on gradients and no random numbers: each learns what it would alone.

    Every member has `losses(batch)`, see `Losses`; all take the same batch.

    Args:
        members: how to build each, by name.
        seeds: of its initial weights and its dropout, by the same name.
    """

    def __init__(self, members: Mapping[str, Callable[[], nn.Module]], seeds: Mapping[str, int]) -> None:
        super().__init__()
        self._names, self._seeds = tuple(members), dict(seeds)
        self._models = nn.ModuleList()  # not by name: a module's may hold no dot
        for name, build in members.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seeds[name])
                self._models.append(build())

    @property
    def members(self) -> dict[str, nn.Module]:
        """The models by name."""
        return dict(zip(self._names, self._models, strict=True))

    @property
    def prefixes(self) -> list[str]:
        """How the names of each member's parameters begin."""
        return [f"_models.{place}." for place in range(len(self._names))]

    def forward(self, batch: Any, step: int = 0, rank: int = 0) -> dict[str, Losses]:
        """Every member's losses, by its name. In training, its dropout is drawn by (its seed, step, rank)."""
        losses = {}
        for name, member in self.members.items():
            if self.training:
                torch.manual_seed(hash((self._seeds[name], step, rank)))
            losses[name] = member.losses(batch)  # type: ignore[operator]
        return losses
