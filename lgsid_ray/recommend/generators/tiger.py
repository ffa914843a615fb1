"""TIGER (Rajput et al., NeurIPS 2023): an encoder-decoder transformer that writes the next SID token by token."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgsid_ray.arrays import Int64
from lgsid_ray.config.recommend import TransformerConfig
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.layers import DecoderBlock, EncoderBlock
from lgsid_ray.recommend.panel import Losses


@dataclass(frozen=True)
class Written:
    """The encoded histories, (b, s, d) with their (b, s) bool mask, and what was written: prefixes are short, so they
    are decoded anew at every level."""

    memory: Tensor
    mask: Tensor
    rows: Tensor
    """(b, k, l) rows of the token table, the beginning first."""

    def take(self, parent: Tensor) -> "Written":
        """Go on from some of the beams: (b, k) places among the beams of each history."""
        chosen = parent.unsqueeze(-1).expand(-1, -1, self.rows.shape[-1])
        return replace(self, rows=self.rows.gather(1, chosen))


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
        hidden = self._decoded(replace(state, rows=rows.unsqueeze(1)))[:, 0]
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
        return Written(self.encoder_norm(x), mask, history.new_zeros((len(history), 1, 0)))

    def advance(self, state: Written, token: Tensor) -> tuple[Tensor, Written]:
        """Write (b, k) tokens, the first BEGIN everywhere → (b, k, size of the next level) logits."""
        level = state.rows.shape[-1]
        row = token + self.offsets[level - 1] if level else torch.full_like(token, self.starts[-1])
        before = state.rows.expand(-1, token.shape[1], -1)
        state = replace(state, rows=torch.cat([before, row.unsqueeze(-1)], dim=-1))
        return self._logits(self._decoded(state)[:, :, -1], level), state

    def _decoded(self, state: Written) -> Tensor:
        """(b, k, l, d): what follows each of the state's rows."""
        x = self.dropout(self.token(state.rows) + self._places()[: state.rows.shape[-1]])
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
