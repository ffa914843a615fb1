"""Transformer layers that generators are built of, all pre-norm."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention of `x` over `memory`, both already normalised."""

    def __init__(self, dimension: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dimension, dimension, bias=False)
        self.key_value = nn.Linear(dimension, 2 * dimension, bias=False)
        self.out = nn.Linear(dimension, dimension, bias=False)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        """(b, q, d), (b, s, d), bool of the positions to look at, (b, s) or (b, q, s) → (b, q, d)."""
        return self.mixed(x, self.projected(memory), mask, causal)

    def projected(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of (b, s, d), (b, heads, s, d / heads) each."""
        batch, _, dimension = memory.shape
        both = self.key_value(memory).view(batch, -1, 2, self.heads, dimension // self.heads)
        key, value = both.permute(2, 0, 3, 1, 4)
        return key, value

    def mixed(self, x: Tensor, memory: tuple[Tensor, Tensor], mask: Tensor | None, causal: bool = False) -> Tensor:
        """As `forward`, over what `projected` gave."""
        batch, _, dimension = x.shape
        (key, value) = memory
        query = self.query(x).view(batch, -1, self.heads, dimension // self.heads).transpose(1, 2)
        allowed = None if mask is None else mask.view(batch, 1, -1, mask.shape[-1])
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, is_causal=causal)
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result


class EncoderBlock(nn.Module):
    """Pre-norm: self-attention over the history, then a feed-forward layer."""

    def __init__(self, dimension: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.own_norm, self.own = nn.LayerNorm(dimension), Attention(dimension, heads)
        self.feed = feed_forward(dimension)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(b, s, d) and bool of the positions to look at, (b, s) or (b, s, s) → (b, s, d)."""
        normed = self.own_norm(x)
        x = x + self.dropout(self.own(normed, normed, mask))
        return x + self.dropout(self.feed(x))


@dataclass(frozen=True)
class Kept:
    """What a decoder's block has projected already, keys and values each."""

    memory: tuple[Tensor, Tensor]
    """(b, heads, s, d / heads) of the memory."""
    written: tuple[Tensor, Tensor]
    """(b, k, heads, l, d / heads) of what each beam has written."""

    def take(self, parent: Tensor) -> "Kept":
        """Of some of the beams: (b, k) places among those of each history."""
        key, value = self.written
        row = torch.arange(len(parent), device=parent.device).unsqueeze(1)
        return Kept(self.memory, (key[row, parent], value[row, parent]))


class DecoderBlock(nn.Module):
    """Pre-norm: causal self-attention over each prefix, attention over the memory, a feed-forward layer or another."""

    def __init__(self, dimension: int, heads: int, dropout: float, feed: nn.Module | None = None) -> None:
        super().__init__()
        self.own_norm, self.own = nn.LayerNorm(dimension), Attention(dimension, heads)
        self.cross_norm, self.cross = nn.LayerNorm(dimension), Attention(dimension, heads)
        self.feed = feed or feed_forward(dimension)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """(b, l, d) over (b, s, d), of which (b, s) bool are to be looked at."""
        normed = self.own_norm(x)
        x = x + self.dropout(self.own(normed, normed, None, causal=True))
        x = x + self.dropout(self.cross(self.cross_norm(x), memory, mask))
        return x + self.dropout(self.feed(x))

    def begin(self, memory: Tensor, beams: int) -> Kept:
        """Of a memory, (b, s, d), with nothing written."""
        key, value = self.cross.projected(memory)
        empty = key.new_zeros(len(key), beams, key.shape[1], 0, key.shape[3])
        return Kept((key, value), (empty, empty))

    def step(self, x: Tensor, kept: Kept, mask: Tensor) -> tuple[Tensor, Kept]:
        """`forward` for the newest position alone: (b, k, d), by what was kept of those before it."""
        normed = self.own_norm(x).view(-1, 1, x.shape[-1])
        newest = self.own.projected(normed)
        written = [
            torch.cat([before, new.view(*before.shape[:3], 1, -1)], dim=3)
            for before, new in zip(kept.written, newest, strict=True)
        ]
        own = self.own.mixed(normed, (written[0].flatten(0, 1), written[1].flatten(0, 1)), None)
        x = x + self.dropout(own).view_as(x)
        x = x + self.dropout(self.cross.mixed(self.cross_norm(x), kept.memory, mask))
        return x + self.dropout(self.feed(x)), Kept(kept.memory, (written[0], written[1]))


def feed_forward(dimension: int) -> nn.Sequential:
    """A hidden layer four times as wide, behind a norm."""
    return nn.Sequential(
        nn.LayerNorm(dimension), nn.Linear(dimension, 4 * dimension), nn.ReLU(), nn.Linear(4 * dimension, dimension)
    )
