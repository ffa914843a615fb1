"""Several models trained side by side on the same batches: one start-up, one pass over the data, paired results."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


class Panel(nn.Module):
    """Models that share no parameter, so that under an element-wise optimiser each learns what it would alone.

    Every member has `loss(*batch)`, a scalar; all take the same batch.
    """

    def __init__(self, members: Mapping[str, Callable[[], nn.Module]], seeds: Mapping[str, int]) -> None:
        """Args: `members`: how to build each; `seeds`: of its initial weights, by the same name."""
        super().__init__()
        built = {}
        for name, build in members.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seeds[name])
                built[name] = build()
        self.members = nn.ModuleDict(built)

    def forward(self, *batch: Tensor) -> Tensor:
        """(members,) losses; their sum is what is minimised."""
        return torch.stack([member.loss(*batch) for member in self.members.values()])  # type: ignore[operator]
