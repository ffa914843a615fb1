"""The reward model R (Eq 2): how well a content and a location belong together."""

from typing import Literal

import torch
from torch import Tensor, nn


class RewardModel(nn.Module):
    """A two-layer perceptron on prompt embeddings; returns logits.

    Args:
        dimension: of the embeddings.
        hidden: width.
        kind: `single`, the paper's MLP(E_i^j), which can only learn where the content hints at the place; `pair`,
            MLP([E_i, E_i^j, E_i ⊙ E_i^j, |E_i - E_i^j|]), which compares with the anchor.
    """

    def __init__(self, dimension: int, hidden: int, kind: Literal["single", "pair"]) -> None:
        super().__init__()
        self.kind = kind
        # Entries of a unit vector are of size 1/√d; the first layer sees entries of size 1.
        self._scale = dimension**0.5
        width = dimension if kind == "single" else 4 * dimension
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, anchor: Tensor, candidate: Tensor) -> Tensor:
        """Logits (...,) of candidates (..., dimension) beside their anchors (same shape, or broadcast to it)."""
        y = candidate * self._scale
        if self.kind == "single":
            features = y
        else:
            x = (anchor * self._scale).expand_as(y)
            features = torch.cat([x, y, x * y, (x - y).abs()], dim=-1)
        return self.layers(features).squeeze(-1)


def margins(reward: RewardModel, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """R(i+) - R(i-) as logits, (triples,), for embeddings (triples, dimension) each (Eq 6)."""
    return reward(anchor, positive) - reward(anchor, negative)
