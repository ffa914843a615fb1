"""DIEN, Deep Interest Evolution Network (Zhou et al., AAAI 2019): a GRU extracts interests, an AUGRU evolves them."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.config.recommend import DienConfig
from lgsid_ray.recommend.panel import Losses
from lgsid_ray.recommend.rankers.batches import RankBatch
from lgsid_ray.recommend.rankers.items import ItemEmbedding
from lgsid_ray.recommend.rankers.layers import Head, masked_softmax


class Augru(nn.Module):
    """A GRU whose update gate is scaled by attention: `u' = a·u`, `h ← (1 − u')·h + u'·h̃`.

    With a = 0, as on padding, the state stays what it was.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.of_input = nn.Linear(width, 3 * hidden)
        self.of_state = nn.Linear(hidden, 3 * hidden)
        self.hidden = hidden

    def forward(self, inputs: Tensor, attention: Tensor) -> Tensor:
        """(b, t, width) and (b, t) → the last state, (b, hidden), from zeros."""
        state = inputs.new_zeros(len(inputs), self.hidden)
        for mine, weight in zip(self.of_input(inputs).unbind(1), attention.unsqueeze(-1).unbind(1), strict=True):
            update, reset, candidate = mine.chunk(3, dim=-1)
            more_update, more_reset, more_candidate = self.of_state(state).chunk(3, dim=-1)
            proposed = torch.tanh(candidate + torch.sigmoid(reset + more_reset) * more_candidate)
            state = torch.lerp(state, proposed, weight * torch.sigmoid(update + more_update))
        return state


class Dien(nn.Module):
    """The click logit of a target given the interest that a history has come to, and what else is known of them."""

    needs: ClassVar = frozenset({"target", "history", "passed", "facts", "alike", "label"})

    def __init__(self, items: ItemEmbedding, config: DienConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.items, self.weight = items, config.auxiliary
        self.extract = nn.GRU(items.width, hidden, batch_first=True)
        self.expects = nn.Linear(hidden, items.width)
        self.attention = nn.Linear(items.width, hidden, bias=False)
        self.evolve = Augru(hidden, hidden)
        self.head = Head(hidden + items.width + items.told_width, hidden)

    def forward(self, batch: RankBatch) -> Tensor:
        """(b,) logits."""
        history = _oldest_first(batch.history, batch.history)
        return self._logit(batch, history >= 0, self._interests(history))

    def losses(self, batch: RankBatch) -> Losses:
        """`click`: mean binary cross-entropy in nats; `next`: the auxiliary loss, weighted.

        From the interest at every event, the next click is to be told from an event that somebody else's is:
        `−½ [log σ(h_t·W e_(t+1)) + log(1 − σ(h_t·W e'_(t+1)))]`, mean over all events that have a next one.
        """
        history = _oldest_first(batch.history, batch.history)
        valid, interests = history >= 0, self._interests(history)
        click = F.binary_cross_entropy_with_logits(self._logit(batch, valid, interests), batch.label)
        return {
            "click": click,
            "next": self.weight * self._next(history, _oldest_first(batch.passed, batch.history), interests),
        }

    def _interests(self, history: Tensor) -> Tensor:
        interests: Tensor = self.extract(self.items(history.clamp(min=0)))[0]
        return interests

    def _logit(self, batch: RankBatch, valid: Tensor, interests: Tensor) -> Tensor:
        wanted = self.items(batch.target)
        fits = (interests @ self.attention(wanted).unsqueeze(-1)).squeeze(-1)
        logit: Tensor = self.head(
            self.evolve(interests, masked_softmax(fits, valid, dim=1)), wanted, self.items.told(batch)
        )
        return logit

    def _next(self, history: Tensor, passed: Tensor, interests: Tensor) -> Tensor:
        expected, valid = self.expects(interests[:, :-1]), history[:, 1:] >= 0
        clicked, other = ((expected * self.items(item[:, 1:].clamp(min=0))).sum(dim=-1) for item in (history, passed))
        loss = (F.softplus(-clicked) + F.softplus(other)) / 2
        return (loss * valid).sum() / valid.sum().clamp(min=1)


def _oldest_first(events: Tensor, history: Tensor) -> Tensor:
    """(b, t) values of a history that is latest first, turned around; padding stays behind.

    Behind, since a GRU's state would else have gone through the padding when it meets the first event.
    """
    place = (history >= 0).sum(dim=1, keepdim=True) - 1 - torch.arange(history.shape[1], device=history.device)
    return torch.where(place >= 0, events.gather(1, place.clamp(min=0)), -1)
