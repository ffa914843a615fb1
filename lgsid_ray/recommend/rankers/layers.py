"""Layers that rankers are built of: Dice, the head, and two ways for a target to attend to events."""

import torch
from torch import Tensor, nn


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


class HeadAttention(nn.Module):
    """Several heads of scaled dot products between a target and events, softmax over the events, values mixed by it.

    Args:
        of_target, of_events: widths of what is compared.
        heads, size: how many, and how wide each.
    """

    def __init__(self, of_target: int, of_events: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.size, self.width = heads, size, heads * size
        self.query = nn.Linear(of_target, self.width, bias=False)
        self.key = nn.Linear(of_events, self.width, bias=False)
        self.value = nn.Linear(of_events, self.width, bias=False)

    def scores(self, target: Tensor, keys: Tensor) -> Tensor:
        """(b, of_target) and keys (b, t, width) of events → (b, t, heads)."""
        query = self.query(target).view(-1, 1, self.heads, self.size)
        return (query * keys.unflatten(-1, (self.heads, self.size))).sum(dim=-1) / self.size**0.5

    def forward(self, target: Tensor, events: Tensor, valid: Tensor, bias: Tensor | None = None) -> Tensor:
        """(b, of_target), (b, t, of_events), (b, t) bool → (b, width); `bias`: (b, t, heads) added to the scores."""
        scores = self.scores(target, self.key(events))
        weight = masked_softmax(scores if bias is None else scores + bias, valid.unsqueeze(-1), dim=1)
        values = self.value(events).unflatten(-1, (self.heads, self.size))
        return torch.einsum("bth,bths->bhs", weight, values).flatten(1)


class Head(nn.Module):
    """The click logit of what is known of a sample: two layers with Dice, `4 hidden` and `2 hidden` wide.

    Args:
        width: of all parts together.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, 4 * hidden)
        self.first_activation = Dice(4 * hidden)
        self.second = nn.Linear(4 * hidden, 2 * hidden)
        self.second_activation = Dice(2 * hidden)
        self.last = nn.Linear(2 * hidden, 1)

    def forward(self, *parts: Tensor) -> Tensor:
        """(b, …) each → (b,)."""
        hidden = self.first_activation(self.first(torch.cat(parts, dim=-1)))
        logit: Tensor = self.last(self.second_activation(self.second(hidden))).squeeze(-1)
        return logit


def masked_softmax(scores: Tensor, valid: Tensor, dim: int) -> Tensor:
    """Softmax over what `valid` marks, 0 elsewhere; all 0 where nothing is valid."""
    floor = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~valid, floor), dim=dim) * valid
