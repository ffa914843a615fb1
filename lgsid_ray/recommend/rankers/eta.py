"""ETA, end-to-end target attention (Chen et al., 2021): a long history is searched by Hamming distance of hashes."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.config.recommend import EtaConfig
from lgsid_ray.recommend.panel import Losses
from lgsid_ray.recommend.rankers.batches import RankBatch
from lgsid_ray.recommend.rankers.items import ItemEmbedding
from lgsid_ray.recommend.rankers.layers import Head, HeadAttention, TargetAttention
from lgsid_ray.recommend.rankers.search import best, distinct, padded


class SimHash(nn.Module):
    """On which side of `bits` fixed random planes a vector lies (Charikar, 2002), as one int64.

    The planes are drawn once and kept with the weights: new ones would turn every distance.
    """

    planes: Tensor

    def __init__(self, width: int, bits: int) -> None:
        super().__init__()
        self.register_buffer("planes", torch.randn(width, bits))

    @torch.no_grad()
    def forward(self, vectors: Tensor) -> Tensor:
        """(…, width) → (…) int64."""
        sides = (vectors @ self.planes > 0).long()
        return (sides << torch.arange(sides.shape[-1], device=sides.device)).sum(dim=-1)


def hamming(left: Tensor, right: Tensor) -> Tensor:
    """In how many of at most 62 bits int64 hashes differ."""
    x = left ^ right
    x = x - ((x >> 1) & 0x5555555555555555)
    x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F
    return (x * 0x0101010101010101) >> 56


class Eta(nn.Module):
    """The click logit of a target given what lies near it in a long history, the latest events, and what is known."""

    needs: ClassVar = frozenset({"target", "history", "long", "facts", "alike", "label"})

    def __init__(self, items: ItemEmbedding, config: EtaConfig) -> None:
        super().__init__()
        self.items, self.found = items, config.found
        self.hash = SimHash(items.width, config.bits)
        self.attention = HeadAttention(items.width, items.width, config.heads, config.hidden)
        self.recent = TargetAttention(items.width, config.hidden)
        self.head = Head(self.attention.width + 2 * items.width + items.told_width, config.hidden)

    def forward(self, batch: RankBatch) -> Tensor:
        """(b,) logits."""
        wanted = self.items(batch.target)
        found = best(batch, padded(batch, -self.distances(batch, wanted)), self.found)
        searched = self.attention(wanted, self.items(found.item), found.valid)
        recent = self.recent(wanted, self.items(batch.history.clamp(min=0)), batch.history >= 0)
        logit: Tensor = self.head(searched, recent, wanted, self.items.told(batch))
        return logit

    @torch.no_grad()
    def distances(self, batch: RankBatch, wanted: Tensor) -> Tensor:
        """(b, t) Hamming distances of the long history's items to the target, float32; an item is hashed once."""
        known, index = distinct(batch.long, len(self.items))
        return hamming(self.hash(wanted).unsqueeze(1), self.hash(self.items(known))[index]).float()

    def losses(self, batch: RankBatch) -> Losses:
        """`click`: mean binary cross-entropy in nats."""
        return {"click": F.binary_cross_entropy_with_logits(self(batch), batch.label)}
