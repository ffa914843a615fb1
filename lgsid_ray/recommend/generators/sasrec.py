"""SASRec (Kang & McAuley, ICDM 2018) with cross-entropy over all items: the rival that knows items by number alone.

With one negative a target, as in the paper, it is a weak rival; with a full softmax it is a strong one (Klenitskiy &
Vasilev, RecSys 2023). It reads no SIDs: to beam search an item's number is an SID of one level.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.arrays import Int64
from lgsid_ray.config.recommend import SasrecConfig
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.layers import EncoderBlock
from lgsid_ray.recommend.panel import Losses


@dataclass(frozen=True)
class Read:
    """The histories, read: (b, d)."""

    user: Tensor

    def take(self, parent: Tensor) -> "Read":
        """The one level is written: there is nothing to go on with."""
        return self


class Sasrec(nn.Module):
    """p(next item | history) = softmax of the history's vector times the items', which are also what it reads.

    A step makes a logit for every item of the catalogue and target of the batch.

    Args:
        tokens: (n, 1) item_index.
        history: longest history in items.
    """

    needs: ClassVar = frozenset({"history", "target"})

    def __init__(self, tokens: Int64, history: int, config: SasrecConfig) -> None:
        super().__init__()
        self.levels, wide = 1, config.dimension
        self.item, self.recency = nn.Embedding(len(tokens), wide), nn.Embedding(history, wide)
        for table in (self.item, self.recency):
            nn.init.normal_(table.weight, std=0.02)  # small: rare items stay where few events leave them
        self.blocks = nn.ModuleList(EncoderBlock(wide, config.heads, config.dropout) for _ in range(config.layers))
        self.norm, self.dropout = nn.LayerNorm(wide), nn.Dropout(config.dropout)

    def losses(self, batch: GenerateBatch) -> Losses:
        """`item`: mean over the batch of `−log p(target | history)`, in nats."""
        return {"item": F.cross_entropy(F.linear(self._user(batch.history), self.item.weight), batch.target)}

    def start(self, batch: GenerateBatch) -> Read:
        """Read the histories."""
        return Read(self._user(batch.history))

    def advance(self, state: Read, token: Tensor) -> tuple[Tensor, Read]:
        """The first and only level: (b, 1) BEGIN → (b, 1, n) logits."""
        return F.linear(state.user, self.item.weight).unsqueeze(1), state

    def _user(self, history: Tensor) -> Tensor:
        """(b, t) latest first → (b, d) of the latest event, behind causal self-attention."""
        length = int((history >= 0).sum(dim=1).max())
        history = history[:, :length]
        age, real = torch.arange(length, device=history.device), history >= 0
        earlier = (age[None, :] >= age[:, None]) & real[:, None, :]
        mask = earlier | torch.eye(length, dtype=torch.bool, device=history.device)  # padding sees itself, not nothing
        x = self.dropout(self.item(history.clamp(min=0)) + self.recency.weight[:length])
        for block in self.blocks:
            x = block(x, mask)
        user: Tensor = self.norm(x[:, 0])
        return user
