"""K-Means on one shard: what travels between shards and driver are centroids, sums and counts. No Ray here."""

from dataclasses import dataclass

import faiss
import numpy as np
import torch

from lgsid_ray.arrays import AnyFloat, Bool, Float32, Float64, Int64

_BLOCK = 1024  # rows compared at once: few enough for their distances to stay in a core's cache
_SETTLED = 1 << 22  # numbers of a block whose near ties are settled


@dataclass(frozen=True)
class Sums:
    """Sufficient statistics of one shard under some centroids; they add up, in a fixed order, over shards.

    Attributes:
        sums: (k, d) float64, of the members of each cluster. counts: (k,). inertia: sum of squared distances.
        far: (m, d) the rows farthest from their centroid. far_distance: (m,) their squared distances.
    """

    sums: Float64
    counts: Int64
    inertia: float
    far: Float32
    far_distance: Float64


def assign(rows: Float32, centroids: Float32, price: Float32 | None = None) -> tuple[Int64, Float64]:
    """Nearest centroid of every row, and the squared distance to it.

    Without a price a row's label is a function of that row and the centroids alone, whatever else is in the batch: of
    equally near centroids, as float64 tells distances, the first.

    Args:
        rows: (n, d). centroids: (k, d). price: (k,) above 0; a cluster's squared distance counts that many times
            when it is chosen.
    """
    label = _nearest(rows, centroids) if price is None else _cheapest(rows, centroids, price)
    distance, mu = np.empty(len(rows), np.float64), torch.from_numpy(centroids)
    for start in range(0, len(rows), _BLOCK):
        block, best = torch.from_numpy(rows[start : start + _BLOCK]), torch.from_numpy(label[start : start + _BLOCK])
        # From the difference itself, not from a product: no cancellation, so an exact hit has distance 0.
        distance[start : start + _BLOCK] = (block - mu[best]).square().sum(1).numpy()
    return label, distance


def _nearest(rows: Float32, centroids: Float32) -> Int64:
    """Labels by faiss; its products round as their batch has it, so what they cannot tell apart is settled exactly."""
    apart, order = faiss.knn(rows, centroids, 2)
    label = order[:, 0].astype(np.int64)
    unsure = np.flatnonzero(~(apart[:, 1] - apart[:, 0] > _rounding(rows, centroids)))
    step = max(1, _SETTLED // centroids.size)
    for start in range(0, len(unsure), step):
        some = unsure[start : start + step]
        label[some] = _settled(rows[some].astype(np.float64), centroids.astype(np.float64))
    return label


def _settled(rows: Float64, centroids: Float64) -> Int64:
    """Labels from differences in float64, the first of the least; a product rules out most centroids beforehand."""
    rough = np.square(centroids).sum(axis=1) - 2 * (rows @ centroids.T)
    near = rough <= rough.min(axis=1, keepdims=True) + _rounding(rows, centroids)[:, None]
    row, code = np.nonzero(near)
    exact = np.full(near.shape, np.inf)
    exact[row, code] = np.square(rows[row] - centroids[code]).sum(axis=1)
    return exact.argmin(axis=1)


def _rounding(rows: AnyFloat, centroids: AnyFloat) -> AnyFloat:
    """(n,) bounds on the error of the difference of two squared distances taken from products, in any order of adding.

    A product of d terms is off by at most d·u·‖x‖‖μ‖, u half the type's epsilon (Higham, 2002, section 3.1); some
    terms more cover norms, sums and the rounding of this bound itself.
    """
    norms, longest = (np.sqrt(np.einsum("ij,ij->i", of, of)) for of in (rows, centroids))
    length = norms + longest.max()
    return np.asarray(np.finfo(rows.dtype).eps * (rows.shape[1] + 16) * np.square(length))


def _cheapest(rows: Float32, centroids: Float32, price: Float32) -> Int64:
    """Labels of least price · squared distance."""
    label, mu = np.empty(len(rows), np.int64), torch.from_numpy(centroids)
    half = mu.square().sum(1) / 2
    for start in range(0, len(rows), _BLOCK):
        block = torch.from_numpy(rows[start : start + _BLOCK])
        # argmin ‖x-μ‖² = argmax x·μ - ‖μ‖²/2: one matrix product.
        score = torch.addmm(-half, block, mu.T) - block.square().sum(1, keepdim=True) / 2
        label[start : start + _BLOCK] = (score * torch.from_numpy(price)).numpy().argmax(1)  # torch's is slow
    return label


def statistics(rows: Float32, centroids: Float32, price: Float32 | None = None, far: int = 0) -> Sums:
    """One pass over a shard's rows; `far` of them, the farthest from their centroid, are sent along."""
    label, distance = assign(rows, centroids, price)
    # One of each distance: copies of one far row would leave no place for the others.
    order = np.unique(-distance, return_index=True)[1][:far] if far else label[:0]
    return Sums(
        cluster_sums(rows, label, len(centroids)),
        np.bincount(label, minlength=len(centroids)),
        float(distance.sum()),
        rows[order],
        distance[order],
    )


def cluster_sums(rows: Float32, label: Int64, clusters: int) -> Float64:
    """(clusters, d) float64 sums of the rows of each cluster."""
    out = torch.zeros(clusters, rows.shape[1], dtype=torch.float64)
    for start in range(0, len(rows), _BLOCK):
        block = torch.from_numpy(rows[start : start + _BLOCK]).double()
        out.index_add_(0, torch.from_numpy(label[start : start + _BLOCK]), block)
    return out.numpy()


def add_up(parts: list[Sums]) -> Sums:
    """The statistics of all shards; added in the order given, so the result does not depend on timing."""
    far, distance = np.concatenate([p.far for p in parts]), np.concatenate([p.far_distance for p in parts])
    order = np.argsort(-distance, kind="stable")
    return Sums(
        np.sum([part.sums for part in parts], axis=0),
        np.sum([part.counts for part in parts], axis=0),
        float(sum(part.inertia for part in parts)),
        far[order],
        distance[order],
    )


def move(centroids: Float32, total: Sums) -> Float32:
    """Lloyd's step: every centroid to the mean of its members; empty ones to the farthest rows of all."""
    moved = centroids.copy()
    full = total.counts > 0
    moved[full] = total.sums[full] / total.counts[full, None]
    return repair(moved, ~full, total)


def repair(centroids: Float32, empty: Bool, total: Sums) -> Float32:
    """Put empty clusters on the rows farthest from their centroids; as many as there are rows with an error."""
    spots = np.unique(total.far[total.far_distance > 0], axis=0, return_index=True)[1]
    rows = total.far[total.far_distance > 0][np.sort(spots)]
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
        label, _ = assign(rows, centroids)
        mass = np.bincount(label, weights=weights, minlength=clusters)
        sums = cluster_sums((rows * weights[:, None]).astype(np.float32), label, clusters)
        centroids[mass > 0] = (sums[mass > 0] / mass[mass > 0, None]).astype(np.float32)
    return centroids
