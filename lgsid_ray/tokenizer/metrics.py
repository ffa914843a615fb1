"""How good codebooks are, over the whole set of items: usage, perplexity, KL, collisions, reconstruction."""

from typing import Any

import numpy as np

from lgsid_ray.arrays import Int32, Int64
from lgsid_ray.tokenizer.residual import kl_to_uniform


def level_metrics(counts: Int64) -> dict[str, float]:
    """Share of codes in use, perplexity exp(entropy), and hard KL(p ‖ uniform) in nats, of (k,) counts (Eq 14-15)."""
    kl = kl_to_uniform(counts.astype(np.float64))
    return {
        "size": len(counts),
        "usage": float((counts > 0).mean()),
        "perplexity": float(len(counts) * np.exp(-kl)),
        "kl": kl,
    }


def collision_ranks(codes: Int64) -> Int32:
    """(n,) 0-based rank of every item among those of equal code, in the order of the items."""
    order = np.argsort(codes, kind="stable")
    first = np.r_[True, codes[order][1:] != codes[order][:-1]]
    start = np.maximum.accumulate(np.where(first, np.arange(len(codes)), 0))
    ranks = np.empty(len(codes), dtype=np.int32)
    ranks[order] = np.arange(len(codes)) - start
    return ranks


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
