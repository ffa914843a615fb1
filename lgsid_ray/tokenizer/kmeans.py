"""K-Means on one shard: what travels between shards and driver are centroids, sums and counts. No Ray here."""

from dataclasses import dataclass

import numpy as np
import torch

from lgsid_ray.arrays import Bool, Float32, Float64, Int64
from lgsid_ray.tokenizer.assign import BLOCK, Codes, assign, squares


@dataclass(frozen=True)
class Sums:
    """Sufficient statistics of one shard under some centroids; they add up, in a fixed order, over shards.

    Attributes:
        sums: (k, d) float64, of the members of each cluster. counts: (k,). inertia: sum of squared distances.
        loads: (k,) rows of each cluster where a row is shared among near ones (see `statistics`).
    """

    sums: Float64
    counts: Int64
    inertia: float
    loads: Float64

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.sums + other.sums,
            self.counts + other.counts,
            self.inertia + other.inertia,
            self.loads + other.loads,
        )


@dataclass(frozen=True)
class Far:
    """Rows far from their centroid, farthest first.

    Attributes:
        rows: (m, d). distance: (m,) squared.
    """

    rows: Float32
    distance: Float64


def statistics(rows: Float32, centroids: Float32, price: Float32 | None = None, softness: float = 0.0) -> Sums:
    """One pass over a shard's (n, d) rows.

    Args:
        price: (k,) of the clusters, as `assign` takes it.
        softness: above 0, a row's share in the load of cluster j is softmax(-(‖x - μ_j‖² + p_j) / softness); at 0
            loads are left at 0.
    """
    codes, label, loads = Codes(centroids, price), np.empty(len(rows), np.int64), np.zeros(len(centroids))
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        score = codes.scores(block)
        if softness > 0:
            soft = torch.softmax(torch.from_numpy(score) * (2 / softness), dim=1)
            loads += soft.sum(dim=0, dtype=torch.float64).numpy()
        label[start : start + BLOCK] = codes.labels(block, score)
    counts = np.bincount(label, minlength=len(centroids))
    # A pass of its own: beside the products it would drive them out of the cache.
    sums, squared = _sums(rows, label, len(centroids))
    mu = centroids.astype(np.float64)
    # Σ‖x - μ‖² by its parts: in float64 what cancels is far below what inertia is compared by.
    inertia = squared - 2 * float((mu * sums).sum()) + float(np.square(mu).sum(axis=1) @ counts)
    return Sums(sums, counts, max(inertia, 0.0), loads)


def farthest(rows: Float32, centroids: Float32, count: int) -> Far:
    """At most `count` rows, each the first of its distance: copies of one far row would leave no place for others."""
    distance = squares(rows, centroids, assign(rows, centroids))
    order = np.unique(-distance, return_index=True)[1][:count]
    return Far(rows[order], distance[order])


def cluster_sums(rows: Float32, label: Int64, clusters: int) -> Float64:
    """(clusters, d) float64 sums of the rows of each cluster."""
    return _sums(rows, label, clusters)[0]


def _sums(rows: Float32, label: Int64, clusters: int) -> tuple[Float64, float]:
    """(clusters, d) float64 sums of the rows of each cluster, and the sum of all squares."""
    dimension, squared = rows.shape[1], 0.0
    out = torch.zeros(clusters, dimension, dtype=torch.float64)
    memory = torch.empty(BLOCK, dimension, dtype=torch.float64)
    for start in range(0, len(rows), BLOCK):
        block = torch.from_numpy(rows[start : start + BLOCK])
        wide = memory[: len(block)].copy_(block)
        out.index_add_(0, torch.from_numpy(label[start : start + BLOCK]), wide)
        squared += float(wide.flatten().dot(wide.flatten()))
    return out.numpy(), squared


def farthest_of(parts: list[Far]) -> Far:
    """The far rows of all shards, farthest first."""
    rows, distance = np.concatenate([part.rows for part in parts]), np.concatenate([part.distance for part in parts])
    order = np.argsort(-distance, kind="stable")
    return Far(rows[order], distance[order])


def move(centroids: Float32, total: Sums) -> Float32:
    """Lloyd's step: every centroid to the mean of its members; those without any stay."""
    moved, full = centroids.copy(), total.counts > 0
    moved[full] = total.sums[full] / total.counts[full, None]
    return moved


def repair(centroids: Float32, empty: Bool, far: Far) -> Float32:
    """Put empty clusters on the rows farthest from their centroids; as many as there are rows with an error."""
    off = far.rows[far.distance > 0]
    rows = off[np.sort(np.unique(off, axis=0, return_index=True)[1])]
    where = np.flatnonzero(empty)[: len(rows)]
    out = centroids.copy()
    out[where] = rows[: len(where)]
    return out


def plus_plus(rows: Float32, weights: Float64, clusters: int, rng: np.random.Generator) -> Float32:
    """Greedy weighted k-means++ (Arthur and Vassilvitskii, 2007) on the candidates of k-means||, and a few Lloyd steps.

    Where there are fewer distinct rows than clusters, the last ones repeat and stay empty.
    """
    draws = 2 + int(np.log(clusters))
    norms = np.square(rows).sum(axis=1, dtype=np.float64)
    chosen = [int(rng.choice(len(rows), p=weights / weights.sum()))]
    nearest = np.square(rows - rows[chosen[0]]).sum(axis=1, dtype=np.float64)
    while len(chosen) < clusters:
        chance = np.cumsum(nearest * weights)
        if chance[-1] <= 0:
            chosen += chosen[-1:] * (clusters - len(chosen))
            break
        picks = np.searchsorted(chance, rng.random(draws) * chance[-1]).clip(max=len(rows) - 1)
        # Of several draws the one that leaves the least error; a product is exact enough to choose by.
        distance = norms[:, None] + norms[picks] - 2.0 * (rows @ rows[picks].T)
        left = weights @ np.minimum(nearest[:, None], distance.clip(min=0))
        chosen.append(int(picks[left.argmin()]))
        nearest = np.minimum(nearest, np.square(rows - rows[chosen[-1]]).sum(axis=1, dtype=np.float64))
    centroids = rows[chosen].copy()
    for _ in range(5):
        label = assign(rows, centroids)
        mass = np.bincount(label, weights=weights, minlength=clusters)
        sums = cluster_sums((rows * weights[:, None]).astype(np.float32), label, clusters)
        centroids[mass > 0] = (sums[mass > 0] / mass[mass > 0, None]).astype(np.float32)
    return centroids
