"""Frontiers of geography against meaning: oracle, late fusion, aligned; each begins at origin.

oracle       Similarity + γ·[same district], exact over the whole catalogue: no arm can lie above it
late fusion  [E_ref, w·geo] with geo on the unit sphere: what geography costs without any training
aligned      normalise((1 − α)·E_ref + α·E_π): α = 1 is the trained model itself, α = 0 the reference
"""

from dataclasses import dataclass

import numpy as np
import torch

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.evaluate.retrieval import score_blocks, search, top_k
from lgsid_ray.evaluate.space import Space

GAMMAS = (0.0, *np.geomspace(1e-4, 2.0, 60).tolist(), 4.0)
"""γ; cosines differ by at most 2, so 4 puts every item of the district first."""
WEIGHTS = (0.0, *np.geomspace(0.03, 3000.0, 41).tolist())
"""w; a squared chord of 1 km is 2.5e-8, so that w = 3000 ranks by distance alone but for the nearest places."""
ALPHAS = tuple(round(0.1 * step, 1) for step in range(21))


@dataclass(frozen=True)
class Arm:
    """One frontier: what is retrieved at every position of its knob."""

    name: str
    knobs: tuple[float, ...]
    found: Int64
    """(knobs, q, k) item_index, best first."""


def oracle(space: Space, queries: Int64, k: int, gammas: tuple[float, ...] = GAMMAS) -> Arm:
    """Re-rank by Similarity + γ·[same district].

    Within the district and outside it the order is that of Similarity whatever γ is, so the best k of either side
    hold the best k of all items: two exact searches serve every γ.
    """
    found = np.empty((len(gammas), len(queries), k), dtype=np.int64)
    district = torch.from_numpy(space.labels[:, -1])
    for rows, scores in score_blocks(space.reference[queries], space.reference, queries):
        own = district[torch.from_numpy(queries[rows])][:, None]
        same = (district[None, :] == own) & (own >= 0)
        inside = top_k(scores.masked_fill(~same, -torch.inf), k)
        outside = top_k(scores.masked_fill_(same, -torch.inf), k)
        items = np.concatenate([inside[0], outside[0]], axis=1)
        merged = np.concatenate([inside[1], outside[1]], axis=1)
        bonus = np.concatenate([np.ones(inside[1].shape), np.zeros(outside[1].shape)], axis=1)
        for position, gamma in enumerate(gammas):
            order = np.lexsort((items, -(merged + gamma * bonus)), axis=1)[:, :k]
            found[position, rows] = np.take_along_axis(items, order, axis=1)
    return Arm("oracle", gammas, found)


def late_fusion(space: Space, queries: Int64, k: int, weights: tuple[float, ...] = WEIGHTS) -> Arm:
    """Retrieve by the cosine of [E_ref, w·xyz]; its norms are all equal, so it orders by cos + w²·(xyz·xyz').

    Raises:
        ValueError: the space has no coordinates.
    """
    if space.xyz is None:
        raise ValueError("this space has no coordinates")
    found = np.empty((len(weights), len(queries), k), dtype=np.int64)
    places = torch.from_numpy(space.xyz)
    for rows, scores in score_blocks(space.reference[queries], space.reference, queries):
        # In doubles until the query's own place is taken off: a kilometre is 1e-8 of the product.
        near = (places[torch.from_numpy(queries[rows])] @ places.T).sub_(1.0).float()
        for position, weight in enumerate(weights):
            found[position, rows] = top_k(torch.add(scores, near, alpha=weight**2), k)[0]
    return Arm("late_fusion", weights, found)


def aligned(space: Space, queries: Int64, k: int, alphas: tuple[float, ...] = ALPHAS) -> Arm:
    """Retrieve in the interpolation of the reference space and the policy space, extrapolated up to α = 2.

    Raises:
        ValueError: the space has no aligned embeddings.
    """
    if space.aligned is None:
        raise ValueError("this space has no aligned embeddings")
    found = [search(interpolate(space.reference, space.aligned, alpha), queries, k) for alpha in alphas]
    return Arm("aligned", alphas, np.stack(found))


def interpolate(reference: Float32, policy: Float32, alpha: float) -> Float32:
    """normalise((1 − α)·E_ref + α·E_π), (n, d) float32; a vector that cancels out stays 0."""
    mixed = np.multiply(reference, np.float32(1 - alpha))
    mixed += np.float32(alpha) * policy
    norms: Float64 = np.linalg.norm(mixed, axis=1, keepdims=True)
    mixed /= np.maximum(norms, np.float32(1e-12))
    return mixed
