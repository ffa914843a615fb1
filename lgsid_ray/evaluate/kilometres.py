"""What embeddings say of kilometres, beyond labels: how far the retrieved lie, and whether nearer is more alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import rankdata

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.draws import below, random_bits
from lgsid_ray.geo.distance import chord_to_km

ASKED, AMONG = 300, 200
"""Queries whose order is looked at, and how many items are put in order for each."""
NEAR_KM = 5.0
"""An item so far away is worth 1/e of one at the same place."""
LEAST = 10
"""A city of fewer items tells no order."""


def retrieved_km(xyz: Float64 | None, queries: Int64, found: Int64) -> Float64 | None:
    """(q, k) kilometres from each query to what was found for it; None without coordinates.

    Args:
        xyz: (n, 3) of all items. queries: (q,) item_index. found: (q, k) item_index.
    """
    if xyz is None:
        return None
    return chord_to_km(np.linalg.norm(xyz[queries, None] - xyz[found], axis=2))


def nearness_gain(xyz: Float64 | None, queries: Int64, found: Int64, ks: Sequence[int]) -> dict[int, Float64]:
    """K → (q,) NDCG@K with gain exp(−km / NEAR_KM): 1 where the nearest items of all stand first, in their order.

    Empty without coordinates.
    """
    km = retrieved_km(xyz, queries, found)
    if km is None or xyz is None:
        return {}
    chords, _ = KDTree(xyz).query(xyz[queries], k=max(ks) + 1)
    # The query itself is one of those at no distance.
    ideal = np.exp(chord_to_km(chords[:, 1:]) / -NEAR_KM)
    gain, discount = np.exp(km / -NEAR_KM), 1 / np.log2(np.arange(2, max(ks) + 2))
    return {k: (gain[:, :k] @ discount[:k]) / np.maximum(ideal[:, :k] @ discount[:k], 1e-300) for k in ks}


@dataclass(frozen=True)
class Order:
    """Items that are put in order by how near they are to one.

    Attributes:
        query: item_index. others: (m,) item_index. near: (m,) minus their distance from the query.
    """

    query: int
    others: Int64
    near: Float64


@dataclass(frozen=True)
class Orders:
    """Orders among the items of the query's own city, and among items drawn from the whole catalogue."""

    by: Mapping[str, Sequence[Order]]
    """`city` and `everywhere`; none without coordinates."""

    @classmethod
    def drawn(cls, labels: Int64, xyz: Float64 | None, queries: Int64, seed: int) -> "Orders":
        """For ASKED of the (q,) queries; of a city of LEAST items and more.

        Args:
            labels: (n, 3) and xyz: (n, 3) of all items.
        """
        by: dict[str, list[Order]] = {"city": [], "everywhere": []}
        if xyz is None:
            return cls(by)
        asked = queries[np.argsort(random_bits(seed, "evaluate/order", queries))[:ASKED]]
        order = np.argsort(labels[:, 1], kind="stable")
        starts = np.searchsorted(labels[order, 1], [labels[asked, 1], labels[asked, 1] + 1])
        for query, first, last in zip(asked.tolist(), *starts.tolist(), strict=True):
            bits = random_bits(seed, f"evaluate/order-{query}", np.arange(AMONG))
            among = {"everywhere": np.unique(below(bits, len(labels)))}
            if labels[query, 1] >= 0 and last - first > LEAST:
                among["city"] = np.unique(order[first + below(bits, last - first)])
            for name, items in among.items():
                others = items[items != query]
                by[name].append(Order(query, others, -np.linalg.norm(xyz[others] - xyz[query], axis=1)))
        return cls(by)

    @property
    def index(self) -> Int64:
        """All items that are in one, ascending."""
        every = [order for orders in self.by.values() for order in orders]
        queries = np.array([order.query for order in every], dtype=np.int64)
        return np.unique(np.concatenate([queries, *(order.others for order in every)]))


def distance_orders(orders: Orders, of: Callable[[Int64], Float32]) -> dict[str, Any]:
    """Mean rank correlation (Spearman) of cosine and nearness, over queries: 1 where the nearer is always more alike.

    By the names of the orders; None where there is none that tells anything.

    Args:
        of: (m, d) vectors of (m,) items.
    """
    found = {name: np.array([_correlation(order, of) for order in some]) for name, some in orders.by.items()}
    return {name: float(np.nanmean(rho)) if np.isfinite(rho).any() else None for name, rho in found.items()}


def _correlation(order: Order, of: Callable[[Int64], Float32]) -> float:
    """NaN where all are alike or at one place."""
    if len(order.others) < 2:
        return float("nan")
    cosines = of(order.others) @ of(np.array([order.query]))[0]
    centred = [rank - rank.mean() for rank in map(rankdata, (cosines, order.near))]
    size = np.sqrt(np.square(centred[0]).sum() * np.square(centred[1]).sum())
    return float(centred[0] @ centred[1] / size) if size > 0 else float("nan")
