"""TIGER (Rajput et al., NeurIPS 2023): an encoder-decoder transformer that writes the next SID token by token."""

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.arrays import Int64
from lgsid_ray.config.recommend import TransformerConfig
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.layers import DecoderBlock, EncoderBlock, Kept
from lgsid_ray.recommend.panel import Losses


@dataclass(frozen=True)
class Written:
    """The encoded histories, (b, s, d) with their (b, s) bool mask, and how much was written."""

    memory: Tensor
    mask: Tensor
    level: int = 0
    """Tokens that each beam has written."""
    kept: tuple[Kept, ...] = ()
    """Of every block of the decoder, once something is written."""

    def take(self, parent: Tensor) -> "Written":
        """Go on from some of the beams: (b, k) places among the beams of each history."""
        return replace(self, kept=tuple(kept.take(parent) for kept in self.kept))


class Tiger(nn.Module):
    """p(SID of the next item | SIDs of the history), one vocabulary per level.

    Args:
        tokens: (n, L) tokens of every item, unique per row: the SID levels and, where items collide, the rank.
        history: longest history in items; the encoder sees L tokens for each.
    """

    needs: ClassVar = frozenset({"history", "target"})
    tokens: Tensor
    offsets: Tensor

    def __init__(self, tokens: Int64, history: int, config: TransformerConfig) -> None:
        super().__init__()
        dimension, layers, heads, dropout = config.dimension, config.layers, config.heads, config.dropout
        self.sizes = [int(level.max()) + 1 for level in tokens.T]
        self.levels = len(self.sizes)
        self.starts = np.cumsum([0, *self.sizes]).tolist()
        self.register_buffer("tokens", torch.as_tensor(tokens, dtype=torch.int64), persistent=False)
        self.register_buffer("offsets", torch.tensor(self.starts[:-1]), persistent=False)
        self.token = nn.Embedding(self.starts[-1] + 1, dimension)  # the last row begins every SID
        self.level = nn.Embedding(self.levels, dimension)
        self.recency = nn.Embedding(history, dimension)
        for table in (self.token, self.level, self.recency):
            nn.init.normal_(table.weight, std=0.02)
        self.encoder = nn.ModuleList(EncoderBlock(dimension, heads, dropout) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderBlock(dimension, heads, dropout) for _ in range(layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(dimension), nn.LayerNorm(dimension)
        self.output = nn.Linear(dimension, self.starts[-1])
        self.dropout = nn.Dropout(dropout)

    def losses(self, batch: GenerateBatch) -> Losses:
        """`token`: mean over the batch of `−log p(SID of target | history)`, in nats per token."""
        state = self.start(batch)
        wanted = self.tokens[batch.target]
        begin = wanted.new_full((len(wanted), 1), self.starts[-1])
        rows = torch.cat([begin, wanted[:, :-1] + self.offsets[:-1]], dim=-1)
        hidden = self._decoded(state, rows)
        parts = [
            F.cross_entropy(self._logits(hidden[:, level], level), wanted[:, level]) for level in range(self.levels)
        ]
        return {"token": torch.stack(parts).mean()}

    def start(self, batch: GenerateBatch) -> Written:
        """Encode the histories; nothing is written yet."""
        length = int((batch.history >= 0).sum(dim=1).max())  # nothing is learned from columns of padding
        history = batch.history[:, :length]
        mask = (history >= 0).repeat_interleave(self.levels, dim=1)
        token = self.tokens[history.clamp(min=0)] + self.offsets
        x = self.token(token) + self.level.weight + self.recency.weight[:length].unsqueeze(1)
        x = self.dropout(x.flatten(1, 2))
        for block in self.encoder:
            x = block(x, mask)
        return Written(self.encoder_norm(x), mask)

    def advance(self, state: Written, token: Tensor) -> tuple[Tensor, Written]:
        """Write (b, k) tokens, the first BEGIN everywhere → (b, k, size of the next level) logits."""
        level = state.level
        row = token + self.offsets[level - 1] if level else torch.full_like(token, self.starts[-1])
        blocks = cast(list[DecoderBlock], list(self.decoder))
        before = state.kept or [block.begin(state.memory, token.shape[1]) for block in blocks]
        x, kept = self.dropout(self.token(row) + self._places()[level]), []
        for block, so_far in zip(blocks, before, strict=True):
            x, more = block.step(x, so_far, state.mask)
            kept.append(more)
        return self._logits(self.decoder_norm(x), level), replace(state, level=level + 1, kept=tuple(kept))

    def _decoded(self, state: Written, rows: Tensor) -> Tensor:
        """(b, l, d): what follows each of the (b, l) rows of the token table, all at once."""
        x = self.dropout(self.token(rows) + self._places()[: rows.shape[-1]])
        for block in self.decoder:
            x = block(x, state.memory, state.mask)
        normed: Tensor = self.decoder_norm(x)
        return normed

    def _places(self) -> Tensor:
        """(at least l, d) what tells the rows that are written apart."""
        return self.level.weight

    def _logits(self, hidden: Tensor, level: int) -> Tensor:
        span = slice(self.starts[level], self.starts[level + 1])
        return F.linear(hidden, self.output.weight[span], self.output.bias[span])
