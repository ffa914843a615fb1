"""DIN, the Deep Interest Network (Zhou et al., KDD 2018): target attention over the history, with Dice."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.config.recommend import DinConfig
from lgsid_ray.recommend.panel import Losses
from lgsid_ray.recommend.rankers.batches import RankBatch
from lgsid_ray.recommend.rankers.items import ItemEmbedding
from lgsid_ray.recommend.rankers.layers import Head, TargetAttention


class Din(nn.Module):
    """The click logit of a target given a history, and what else is known of them."""

    needs: ClassVar = frozenset({"target", "history", "facts", "alike", "label"})

    def __init__(self, items: ItemEmbedding, config: DinConfig) -> None:
        super().__init__()
        self.items = items
        self.attention = TargetAttention(items.width, config.hidden)
        self.head = Head(2 * items.width + items.told_width, config.hidden)

    def forward(self, batch: RankBatch) -> Tensor:
        """(b,) logits."""
        wanted = self.items(batch.target)
        interest = self.attention(wanted, self.items(batch.history.clamp(min=0)), batch.history >= 0)
        logit: Tensor = self.head(interest, wanted, self.items.told(batch))
        return logit

    def losses(self, batch: RankBatch) -> Losses:
        """`click`: mean binary cross-entropy in nats."""
        return {"click": F.binary_cross_entropy_with_logits(self(batch), batch.label)}
