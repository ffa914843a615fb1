"""TWIN (Chang et al., KDD 2023): one attention scores a long history twice, in the search and in what it finds."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.config.recommend import TwinConfig
from lgsid_ray.recommend.panel import Losses
from lgsid_ray.recommend.rankers.batches import RankBatch
from lgsid_ray.recommend.rankers.items import ItemEmbedding
from lgsid_ray.recommend.rankers.layers import Head, HeadAttention, TargetAttention
from lgsid_ray.recommend.rankers.search import STEPS, age_steps, distinct, padded, steps, walked


class CrossBias(nn.Module):
    """What an event's time and way say to every head: `(K_c W^c) β`, a number for each step of either."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.age, self.way = nn.Embedding(STEPS, heads), nn.Embedding(STEPS, heads)
        for table in (self.age, self.way):
            nn.init.zeros_(table.weight)

    def forward(self, gap: Tensor, km: Tensor) -> Tensor:
        """(b, t) seconds and kilometres → (b, t, heads)."""
        told: Tensor = self.age(age_steps(gap)) + self.way(steps(km))
        return told


class Twin(nn.Module):
    """The click logit of a target given what the heads find in a long history, the latest events, and what is known."""

    needs: ClassVar = frozenset({"target", "history", "long", "gap", "km", "facts", "alike", "label"})

    def __init__(self, items: ItemEmbedding, config: TwinConfig) -> None:
        super().__init__()
        self.items, self.found = items, config.found
        self.attention = HeadAttention(items.width, items.width, config.heads, config.hidden)
        self.cross = CrossBias(config.heads)
        self.recent = TargetAttention(items.width, config.hidden)
        self.head = Head(self.attention.width + 2 * items.width + items.told_width, config.hidden)

    def forward(self, batch: RankBatch) -> Tensor:
        """(b,) logits."""
        wanted = self.items(batch.target)
        found = walked(batch, self.scores(batch, wanted), self.found)
        bias = self.cross(batch.gap.gather(1, found.place), batch.km.gather(1, found.place))
        searched = self.attention(wanted, self.items(found.item), found.valid, bias)
        recent = self.recent(wanted, self.items(batch.history.clamp(min=0)), batch.history >= 0)
        logit: Tensor = self.head(searched, recent, wanted, self.items.told(batch))
        return logit

    @torch.no_grad()
    def scores(self, batch: RankBatch, wanted: Tensor) -> Tensor:
        """(b, t, heads) of the long history by the attention's own weights, -inf on padding; an item has one key."""
        known, index = distinct(batch.long, len(self.items))
        keys = F.embedding(index, self.attention.key(self.items(known)))  # thrice as fast as by brackets
        return padded(batch, self.attention.scores(wanted, keys) + self.cross(batch.gap, batch.km))

    def losses(self, batch: RankBatch) -> Losses:
        """`click`: mean binary cross-entropy in nats."""
        return {"click": F.binary_cross_entropy_with_logits(self(batch), batch.label)}
