"""SIM, search-based interest model (Pi et al., CIKM 2020): what of a long history fits the target, then attention."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.config.recommend import SimConfig
from lgsid_ray.recommend.panel import Losses
from lgsid_ray.recommend.rankers.batches import RankBatch
from lgsid_ray.recommend.rankers.items import ItemEmbedding
from lgsid_ray.recommend.rankers.layers import Head, HeadAttention, TargetAttention
from lgsid_ray.recommend.rankers.search import STEPS, Found, age_steps, best, distinct, padded


class SoftSearch(nn.Module):
    """Relevance `r = (W_a t)·(W_b h)` of every event, and a click logit of `Σ r h` by which it is learned."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, hidden, bias=False)
        self.key = nn.Linear(width, hidden, bias=False)
        self.head = Head(2 * width, hidden)

    def relevance(self, wanted: Tensor, known: Tensor, index: Tensor) -> Tensor:
        """(b, width), (u, width), (b, t) rows of `known` → (b, t)."""
        keys = F.embedding(index, self.key(known))  # thrice as fast as by brackets
        return torch.einsum("bh,bth->bt", self.query(wanted), keys)

    def logit(self, wanted: Tensor, known: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """(b,) by the events' mean with those weights: their number would else decide how large it is."""
        weight = weight / (weight != 0).sum(dim=1, keepdim=True).clamp(min=1)
        mixed = F.embedding_bag(index, known, mode="sum", per_sample_weights=weight)
        found: Tensor = self.head(mixed, wanted)
        return found


class Sim(nn.Module):
    """The click logit of a target given what a search finds in a long history, the latest events, and what is known."""

    needs: ClassVar = frozenset({"target", "history", "long", "gap", "facts", "alike", "label"})

    def __init__(self, items: ItemEmbedding, config: SimConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.items, self.found = items, config.found
        self.search = SoftSearch(items.width, hidden) if config.search == "soft" else None
        self.ages = nn.Embedding(STEPS, config.dimension)
        self.attention = HeadAttention(items.width, items.width + config.dimension, config.heads, hidden)
        self.recent = TargetAttention(items.width, hidden)
        self.head = Head(self.attention.width + 2 * items.width + items.told_width, hidden)

    def forward(self, batch: RankBatch) -> Tensor:
        """(b,) logits."""
        wanted = self.items(batch.target)
        if self.search is None:
            return self._logit(batch, wanted, best(batch, self._alike(batch), self.found))
        with torch.no_grad():
            known, index = distinct(batch.long, len(self.items))
            relevance = self.search.relevance(wanted, self.items(known), index)
        return self._logit(batch, wanted, best(batch, padded(batch, relevance), self.found))

    def losses(self, batch: RankBatch) -> Losses:
        """`click`: mean binary cross-entropy in nats; `search`: that of the soft search's own logit."""
        if self.search is None:
            return {"click": F.binary_cross_entropy_with_logits(self(batch), batch.label)}
        wanted = self.items(batch.target)
        known, index = distinct(batch.long, len(self.items))
        told = self.items(known)
        relevance = self.search.relevance(wanted, told, index)
        guess = self.search.logit(wanted, told, index, relevance * (batch.long >= 0))
        logit = self._logit(batch, wanted, best(batch, padded(batch, relevance.detach()), self.found))
        loss = F.binary_cross_entropy_with_logits
        return {"click": loss(logit, batch.label), "search": loss(guess, batch.label)}

    def _alike(self, batch: RankBatch) -> Tensor:
        """Hard search: the latest events with the target's first token; without SIDs, of the target itself."""
        told, wanted = batch.long, batch.target
        if self.items.tokens.shape[1]:
            told, wanted = self.items.tokens[told.clamp(min=0), 0], self.items.tokens[wanted, 0]
        apart = told != wanted.unsqueeze(1)
        return padded(batch, torch.zeros_like(told, dtype=torch.float32).masked_fill(apart, -torch.inf))

    def _logit(self, batch: RankBatch, wanted: Tensor, found: Found) -> Tensor:
        age = self.ages(age_steps(batch.gap.gather(1, found.place)))
        events = torch.cat([self.items(found.item), age], dim=-1)
        searched = self.attention(wanted, events, found.valid)
        recent = self.recent(wanted, self.items(batch.history.clamp(min=0)), batch.history >= 0)
        logit: Tensor = self.head(searched, recent, wanted, self.items.told(batch))
        return logit
