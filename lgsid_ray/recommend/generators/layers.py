"""Transformer layers that generators are built of, all pre-norm."""

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
        batch, _, dimension = x.shape
        query = self.query(x).view(batch, -1, self.heads, dimension // self.heads).transpose(1, 2)
        both = self.key_value(memory).view(batch, -1, 2, self.heads, dimension // self.heads)
        key, value = both.permute(2, 0, 3, 1, 4)
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


class DecoderBlock(nn.Module):
    """Pre-norm: causal self-attention over each prefix, attention over the memory, a feed-forward layer or another."""

    def __init__(self, dimension: int, heads: int, dropout: float, feed: nn.Module | None = None) -> None:
        super().__init__()
        self.own_norm, self.own = nn.LayerNorm(dimension), Attention(dimension, heads)
        self.cross_norm, self.cross = nn.LayerNorm(dimension), Attention(dimension, heads)
        self.feed = feed or feed_forward(dimension)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """(b, k, l, d), k prefixes for each history, over (b, s, d); the memory is not repeated k times."""
        normed = self.own_norm(x).flatten(0, 1)
        x = x + self.dropout(self.own(normed, normed, None, causal=True)).view_as(x)
        queries = self.cross_norm(x).flatten(1, 2)
        x = x + self.dropout(self.cross(queries, memory, mask)).view_as(x)
        return x + self.dropout(self.feed(x))


def feed_forward(dimension: int) -> nn.Sequential:
    """A hidden layer four times as wide, behind a norm."""
    return nn.Sequential(
        nn.LayerNorm(dimension), nn.Linear(dimension, 4 * dimension), nn.ReLU(), nn.Linear(4 * dimension, dimension)
    )
