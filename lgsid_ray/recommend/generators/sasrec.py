"""SASRec (Kang & McAuley, ICDM 2018) with cross-entropy over all items: the rival that knows items by number alone.

With one negative a target, as in the paper, it is a weak rival; with a full softmax it is a strong one (Klenitskiy &
Vasilev, RecSys 2023). As there, a history is read once an epoch, and all its events are targets at once. It reads no
SIDs: to beam search an item's number is an SID of one level.
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

    A step makes a logit for every item of the catalogue and, of a batch of b targets, b events on average.

    Args:
        tokens: (n, 1) item_index.
        history: longest history in items.
    """

    needs: ClassVar = frozenset({"history", "target", "closing"})

    def __init__(self, tokens: Int64, history: int, config: SasrecConfig) -> None:
        super().__init__()
        self.levels, wide = 1, config.dimension
        self.item, self.place = nn.Embedding(len(tokens), wide), nn.Embedding(history, wide)
        for table in (self.item, self.place):
            nn.init.normal_(table.weight, std=0.02)  # small: rare items stay where few events leave them
        self.blocks = nn.ModuleList(EncoderBlock(wide, config.heads, config.dropout) for _ in range(config.layers))
        self.norm, self.dropout = nn.LayerNorm(wide), nn.Dropout(config.dropout)
        self._scale = wide**0.5  # of items that are read: as large as what layers add, though drawn small

    def losses(self, batch: GenerateBatch) -> Losses:
        """`item`: `−log p(target | history)` in nats, mean over the batch.

        In training the closing rows of the batch stand for all: they are read once, and each of their events is a
        target of those before it. So a target is met once an epoch, as where every row is read for its own alone.
        """
        if not self.training:
            return {"item": F.cross_entropy(F.linear(self._user(batch.history), self.item.weight), batch.target)}
        rows = batch.closing.nonzero()[:, 0]
        some = rows if len(rows) else batch.closing.new_zeros(1, dtype=torch.int64)  # none: a row that weighs nothing
        read = self._read(batch.history[some])
        follows = torch.cat([batch.target[some, None], batch.history[some, : read.shape[1] - 1]], dim=1)
        real = batch.history[some, : read.shape[1]] >= 0
        total = F.cross_entropy(F.linear(read[real], self.item.weight), follows[real], reduction="sum")
        return {"item": total * (len(rows) > 0) / len(batch.target)}

    def start(self, batch: GenerateBatch) -> Read:
        """Read the histories."""
        return Read(self._user(batch.history))

    def advance(self, state: Read, token: Tensor) -> tuple[Tensor, Read]:
        """The first and only level: (b, 1) BEGIN → (b, 1, n) logits."""
        return F.linear(state.user, self.item.weight).unsqueeze(1), state

    def _user(self, history: Tensor) -> Tensor:
        """(b, t) latest first → (b, d) of the latest event."""
        return self._read(history)[:, 0]

    def _read(self, history: Tensor) -> Tensor:
        """(b, t) latest first → (b, longest, d) behind causal self-attention, which knows nothing later than each."""
        length = int((history >= 0).sum(dim=1).max())
        history = history[:, :length]
        age, real = torch.arange(length, device=history.device), history >= 0
        earlier = (age[None, :] >= age[:, None]) & real[:, None, :]
        mask = earlier | torch.eye(length, dtype=torch.bool, device=history.device)  # padding sees itself, not nothing
        # Places are counted from the oldest event on: so an event is read alike, whatever follows it.
        place = (real.sum(dim=1, keepdim=True) - 1 - age).clamp(min=0)
        x = self.dropout(self.item(history.clamp(min=0)) * self._scale + self.place(place))
        for block in self.blocks:
            x = block(x, mask)
        read: Tensor = self.norm(x)
        return read
