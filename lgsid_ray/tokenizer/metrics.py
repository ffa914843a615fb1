"""How good codebooks are, over the whole set of items: usage, perplexity, KL, collisions, reconstruction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lgsid_ray.arrays import Float32, Int32, Int64
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


def levels_metrics(counts: Sequence[Int64], errors: Errors) -> list[dict[str, Any]]:
    """Those of every level, of how often each of its codes occurs; errors are relative to the embeddings' variance."""
    variance = errors.square - float(np.square(errors.total).sum()) / errors.count
    relative = [left / variance if variance > 0 else 0.0 for left in errors.left]
    return [
        {"level": level, **level_metrics(held), "relative_error": error}
        for level, (held, error) in enumerate(zip(counts, relative, strict=True), start=1)
    ]


def collision_metrics(held: Mapping[int, int]) -> dict[str, Any]:
    """How many items share their SID, at item level and at SID level; of {items: SIDs that have so many}."""
    items, sids = sum(count * times for count, times in held.items()), sum(held.values())
    return {
        "items": items,
        "distinct_sids": sids,
        "collision_rate": (items - held.get(1, 0)) / items,
        "sid_collision_rate": (sids - held.get(1, 0)) / sids,
        "max_items_per_sid": max(held),
    }


def tokenizer_metrics(levels: list[dict[str, Any]], held: Mapping[int, int], errors: Errors) -> dict[str, Any]:
    """All of them: see `levels_metrics` and `collision_metrics`."""
    return {
        **collision_metrics(held),
        "reconstruction_error": errors.left[-1] / errors.count,
        "relative_error": levels[-1]["relative_error"],
        "levels": levels,
    }
