"""How good codebooks are, over the whole set of items: usage, perplexity, KL, collisions, reconstruction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lgsid_ray.arrays import Float32, Int32, Int64
from lgsid_ray.artifacts.keys import pack_sids
from lgsid_ray.tokenizer.residual import kl_to_uniform
from lgsid_ray.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Errors:
    """Sums over items of what the levels leave of their embeddings; they add up over parts.

    Attributes:
        count: items. total: d sums of the embeddings' entries. square: of ‖X‖². left: per level, of what the
            tokens up to it miss, ‖R^(l)‖² (Eq 12).
    """

    count: int
    total: Sequence[float]
    square: float
    left: Sequence[float]

    @classmethod
    def of(cls, tokenizer: Tokenizer, embeddings: Float32, tokens: Int32) -> "Errors":
        """Those of (n, d) embeddings under their (n, L) tokens."""
        prefixes = range(1, tokens.shape[1] + 1)
        rests = (embeddings - tokenizer.decode(tokens[:, :length]) for length in prefixes)
        left = [float(np.square(rest, dtype=np.float64).sum()) for rest in rests]
        total = embeddings.sum(axis=0, dtype=np.float64)
        return cls(len(embeddings), total.tolist(), float(np.square(embeddings, dtype=np.float64).sum()), left)

    def __add__(self, other: "Errors") -> "Errors":
        total, left = (np.add(*pair).tolist() for pair in ((self.total, other.total), (self.left, other.left)))
        return Errors(self.count + other.count, total, self.square + other.square, left)


def level_metrics(counts: Int64) -> dict[str, float]:
    """Share of codes in use, perplexity exp(entropy), and hard KL(p ‖ uniform) in nats, of (k,) counts (Eq 14-15)."""
    kl = kl_to_uniform(counts.astype(np.float64))
    return {
        "size": len(counts),
        "usage": float((counts > 0).mean()),
        "perplexity": float(len(counts) * np.exp(-kl)),
        "kl": kl,
    }


def collision_metrics(codes: Int64) -> dict[str, Any]:
    """How many items share their SID, at item level and at SID level."""
    _, counts = np.unique(codes, return_counts=True)
    return {
        "items": len(codes),
        "distinct_sids": len(counts),
        "collision_rate": float(counts[counts > 1].sum() / len(codes)),
        "sid_collision_rate": float((counts > 1).mean()),
        "max_items_per_sid": int(counts.max()),
    }


def tokenizer_metrics(sizes: Sequence[int], tokens: Int32, errors: Errors) -> dict[str, Any]:
    """All of them, of (n, L) tokens of all items; errors are relative to the variance of the embeddings."""
    variance = errors.square - float(np.square(errors.total).sum()) / errors.count
    levels = []
    for level, size in enumerate(sizes):
        counts = np.bincount(tokens[:, level], minlength=size)
        relative = errors.left[level] / variance if variance > 0 else 0.0
        levels.append({"level": level + 1, **level_metrics(counts), "relative_error": relative})
    return {
        **collision_metrics(pack_sids(tokens, sizes)),
        "reconstruction_error": errors.left[-1] / errors.count,
        "relative_error": levels[-1]["relative_error"],
        "levels": levels,
    }
