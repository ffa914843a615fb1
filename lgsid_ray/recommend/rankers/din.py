"""DIN, the Deep Interest Network (Zhou et al., KDD 2018): target attention over the history, with Dice."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.config.recommend import DinConfig
from lgsid_ray.recommend.panel import Losses
from lgsid_ray.recommend.rankers.batches import RankBatch
from lgsid_ray.recommend.rankers.facts import FACTS
from lgsid_ray.recommend.rankers.items import ItemEmbedding


class Dice(nn.Module):
    """Data-adaptive activation: `p·x + (1 − p)·α·x` with `p = σ((x − E[x]) / √(Var[x] + ε))`.

    While training, mean and variance are those of the batch, over the entries that `valid` marks, so that padding
    moves nothing. Afterwards they are those of the last training batch seen: end training with a large one.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(width))
        self.epsilon = epsilon
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """(…, width) to the same shape; `valid`: (…) bool, None for all."""
        mean, variance = self.mean, self.variance
        if self.training:
            rows = x.flatten(0, -2)
            weight = torch.ones_like(rows[:, :1]) if valid is None else valid.reshape(-1, 1).to(x.dtype)
            count = weight.sum().clamp(min=1)
            mean = (rows * weight).sum(0) / count
            variance = ((rows - mean).square() * weight).sum(0) / count
            with torch.no_grad():
                self.mean.copy_(mean)
                self.variance.copy_(variance)
        gate = torch.sigmoid((x - mean) * torch.rsqrt(variance + self.epsilon))
        return x * (self.alpha + gate * (1 - self.alpha))


class TargetAttention(nn.Module):
    """Weights `MLP([t, h, t − h, t ⊙ h])` of every history item for the target, no softmax; their weighted sum.

    The first layer is applied block by block: `t` and `h` meet its weights once each, only `t ⊙ h` is made per pair.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(4 * width, hidden)
        self.activation = Dice(hidden)
        self.last = nn.Linear(hidden, 1)

    def forward(self, target: Tensor, history: Tensor, valid: Tensor) -> Tensor:
        """(b, width), (b, t, width), (b, t) bool → (b, width)."""
        of_target, of_history, of_difference, of_product = self.first.weight.chunk(4, dim=1)
        once = target @ (of_target + of_difference).T + self.first.bias
        each = history @ (of_history - of_difference).T + (target.unsqueeze(1) * history) @ of_product.T
        weight = self.last(self.activation(each + once.unsqueeze(1), valid)).squeeze(-1)
        return torch.einsum("bt,btw->bw", weight.masked_fill(~valid, 0.0), history)


class Din(nn.Module):
    """The click logit of a target given a history, and what else is known of them."""

    needs: ClassVar = frozenset({"target", "history", "facts", "label"})

    def __init__(self, items: ItemEmbedding, config: DinConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.items = items
        self.attention = TargetAttention(items.width, hidden)
        self.first = nn.Linear(2 * items.width + len(FACTS), 4 * hidden)
        self.first_activation = Dice(4 * hidden)
        self.second = nn.Linear(4 * hidden, 2 * hidden)
        self.second_activation = Dice(2 * hidden)
        self.last = nn.Linear(2 * hidden, 1)

    def forward(self, batch: RankBatch) -> Tensor:
        """(b,) logits."""
        valid = batch.history >= 0
        wanted = self.items(batch.target)
        interest = self.attention(wanted, self.items(batch.history.clamp(min=0)), valid)
        hidden = self.first_activation(self.first(torch.cat([interest, wanted, batch.facts], dim=-1)))
        logit: Tensor = self.last(self.second_activation(self.second(hidden))).squeeze(-1)
        return logit

    def losses(self, batch: RankBatch) -> Losses:
        """`click`: mean binary cross-entropy in nats."""
        return {"click": F.binary_cross_entropy_with_logits(self(batch), batch.label)}
