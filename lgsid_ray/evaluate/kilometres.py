"""What embeddings say of kilometres, beyond labels: how far the retrieved lie, and whether nearer is more alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import rankdata

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.draws import below, random_bits
from lgsid_ray.evaluate.space import Space
from lgsid_ray.geo.distance import chord_to_km

ASKED, AMONG = 300, 200
"""Queries whose order is looked at, and how many items are put in order for each."""
NEAR_KM = 5.0
"""An item so far away is worth 1/e of one at the same place."""
LEAST = 10
"""A city of fewer items tells no order."""


def retrieved_km(space: Space, queries: Int64, found: Int64) -> Float64 | None:
    """(q, k) kilometres from each query to what was found for it; None without coordinates."""
    if space.xyz is None:
        return None
    return chord_to_km(np.linalg.norm(space.xyz[queries, None] - space.xyz[found], axis=2))


def nearness_gain(space: Space, queries: Int64, found: Int64, ks: Sequence[int]) -> dict[int, Float64]:
    """K → (q,) NDCG@K with gain exp(−km / NEAR_KM): 1 where the nearest items of all stand first, in their order.

    Empty without coordinates.
    """
    km = retrieved_km(space, queries, found)
    if km is None or space.xyz is None:
        return {}
    chords, _ = KDTree(space.xyz).query(space.xyz[queries], k=max(ks) + 1)
    # The query itself is one of those at no distance.
    ideal = np.exp(chord_to_km(chords[:, 1:]) / -NEAR_KM)
    gain, discount = np.exp(km / -NEAR_KM), 1 / np.log2(np.arange(2, max(ks) + 2))
    return {k: (gain[:, :k] @ discount[:k]) / np.maximum(ideal[:, :k] @ discount[:k], 1e-300) for k in ks}


def distance_orders(space: Space, vectors: Float32, queries: Int64, seed: int) -> dict[str, Any]:
    """Mean rank correlation (Spearman) of cosine and nearness, over queries: 1 where the nearer is always more alike.

    `city`: among items of the query's own city. `everywhere`: among items drawn from the whole catalogue. None where
    there are no coordinates, or no city of `LEAST` items.
    """
    if space.xyz is None:
        return {"city": None, "everywhere": None}
    asked = queries[np.argsort(random_bits(seed, "evaluate/order", queries))[:ASKED]]
    order = np.argsort(space.labels[:, 1], kind="stable")
    starts = np.searchsorted(space.labels[order, 1], [space.labels[asked, 1], space.labels[asked, 1] + 1])
    found: dict[str, list[float]] = {"city": [], "everywhere": []}
    for query, first, last in zip(asked.tolist(), *starts.tolist(), strict=True):
        bits = random_bits(seed, f"evaluate/order-{query}", np.arange(AMONG))
        found["everywhere"].append(_order(space, vectors, query, np.unique(below(bits, len(space)))))
        if space.labels[query, 1] >= 0 and last - first > LEAST:
            found["city"].append(_order(space, vectors, query, np.unique(order[first + below(bits, last - first)])))
    return {name: float(np.nanmean(values)) if np.isfinite(values).any() else None for name, values in found.items()}


def _order(space: Space, vectors: Float32, query: int, among: Int64) -> float:
    """Rank correlation of cosine and nearness to a query among other items; NaN where all are alike or at one place."""
    assert space.xyz is not None
    others = among[among != query]
    if len(others) < 2:
        return float("nan")
    if len(others) < 2:
        return float("nan")
    near = -np.linalg.norm(space.xyz[others] - space.xyz[query], axis=1)
    ranks = [rankdata(values) for values in (vectors[others] @ vectors[query], near)]
    centred = [rank - rank.mean() for rank in ranks]
    size = np.sqrt(np.square(centred[0]).sum() * np.square(centred[1]).sum())
    return float(centred[0] @ centred[1] / size) if size > 0 else float("nan")
