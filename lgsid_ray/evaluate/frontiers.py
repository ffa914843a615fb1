"""Frontiers of geography against meaning: oracles, rivals that need no training, aligned.

Each begins at origin but for the content oracle, which begins at content alone.

oracle           Similarity + γ·[same district], exact over the whole catalogue: no arm can lie above it
content oracle   ContentSimilarity + γ·[same district]: no arm can lie above it where ContentSimilarity is what is kept
levels           Similarity + γ·(district + ½ city + ¼ province); like the oracle it asks for labels at query time
label fusion     [E_ref, w·h] with h the hashed labels of all three levels
late fusion      [E_ref, w·geo] with geo on the unit sphere
distance kernel  Similarity + w·exp(−km / 5)
log distance     Similarity − w·log(1 + km)
text fusion      normalise(E_ref + w·E(location text)): what the policy reads in every prompt, put in by one line
whitened fusion  the same with the location texts whitened (artifacts/fusion.py), fitted to training items' texts
whitened, all    the same fitted to all items' texts: what a catalogue gains that knows all its places beforehand
content fusion   normalise(E_ref + w·(E_content + whitened location text)): what an item is and where it is, each
                 embedded by itself
aligned          normalise((1 − α)·E_ref + α·E_π): α = 1 is the trained model itself, α = 0 the reference
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lgsid_ray.arrays import Float32, Int64
from lgsid_ray.artifacts.fusion import Fusion
from lgsid_ray.draws import random_bits
from lgsid_ray.evaluate.retrieval import score_blocks, top_k
from lgsid_ray.evaluate.space import Space, Texts
from lgsid_ray.geo.distance import EARTH_RADIUS_KM

GAMMAS = (0.0, *np.geomspace(1e-4, 2.0, 60).tolist(), 4.0)
"""γ; cosines differ by at most 2, so 4 puts every item of the district first."""
WEIGHTS = (0.0, *np.geomspace(0.03, 3000.0, 41).tolist())
"""w of late fusion; a squared chord of 1 km is 2.5e-8, so that w = 3000 ranks by distance alone but for the nearest
places."""
ADDED = (0.0, *np.geomspace(1e-3, 2.0, 24).tolist())
"""γ or w of what is added to the cosine and is about 1 at most."""
TEXT_WEIGHTS = (0.0, *np.geomspace(0.03, 3.0, 15).tolist())
"""w of text fusion."""
ALPHAS = tuple(round(0.1 * step, 1) for step in range(21))
KERNEL_KM = 5.0
"""Of the distance kernel: places so far apart get 1/e of its bonus."""

Bonus = Callable[[Int64], Tensor]
"""(b,) queries -> (b, n) float32 for every item, which a knob adds to the cosine."""


@dataclass(frozen=True)
class Arm:
    """One frontier: what is retrieved at every position of its knob."""

    name: str
    knobs: tuple[float, ...]
    found: Int64
    """(knobs, q, k) item_index, best first."""


def oracle(space: Space, queries: Int64, k: int, gammas: tuple[float, ...] = GAMMAS) -> Arm:
    """Re-rank by Similarity + γ·[same district]."""
    return Arm("oracle", gammas, _by_district(space, space.reference, queries, k, gammas))


def content_oracle(space: Space, queries: Int64, k: int, gammas: tuple[float, ...] = GAMMAS) -> Arm:
    """Re-rank by ContentSimilarity + γ·[same district].

    Raises:
        ValueError: the space has no content embeddings.
    """
    if space.content is None:
        raise ValueError("this space has no content embeddings")
    return Arm("content_oracle", gammas, _by_district(space, space.content, queries, k, gammas))


def _by_district(space: Space, vectors: Float32, queries: Int64, k: int, gammas: tuple[float, ...]) -> Int64:
    """(γ, q, k) the best by cosine + γ·[same district].

    Within the district and outside it the order is that of Similarity whatever γ is, so the best k of either side
    hold the best k of all items: two exact searches serve every γ.
    """
    found = np.empty((len(gammas), len(queries), k), dtype=np.int64)
    district = torch.from_numpy(space.labels[:, -1])
    for rows, scores in score_blocks(vectors[queries], vectors, queries):
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
    return found


def levels(space: Space, queries: Int64, k: int) -> Arm:
    """Re-rank by Similarity + γ·(district + ½ city + ¼ province)."""

    def same(rows: Int64) -> Tensor:
        bonus = torch.zeros(len(rows), len(space))
        for column, worth in zip(space.labels.T, (0.25, 0.5, 1.0), strict=True):
            own = column[rows][:, None]
            bonus += worth * torch.from_numpy((column == own) & (own >= 0))
        return bonus

    return _added("levels", space, queries, k, ADDED, same)


def label_fusion(space: Space, queries: Int64, k: int) -> Arm:
    """Retrieve by the cosine of [E_ref, w·h], which orders by cos + w²·(h·h'); w² is the knob.

    h is the mean over the three levels of a label path's 64 signs, drawn by its code and scaled to length 1; an
    unknown label has none.
    """
    signs = np.zeros((len(space), 64), np.float32)
    for level, column in enumerate(space.labels.T):
        bits = random_bits(0, f"label-fusion-{level}", column)[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
        signs += np.where(column[:, None] >= 0, bits.astype(np.float32) * 2 - 1, 0) / (8 * np.sqrt(3, dtype=np.float32))
    hashed = torch.from_numpy(signs)
    return _added("label_fusion", space, queries, k, ADDED, lambda rows: hashed[torch.from_numpy(rows)] @ hashed.T)


def late_fusion(space: Space, queries: Int64, k: int, weights: tuple[float, ...] = WEIGHTS) -> Arm:
    """Retrieve by the cosine of [E_ref, w·xyz]; its norms are all equal, so it orders by cos + w²·(xyz·xyz').

    Raises:
        ValueError: the space has no coordinates.
    """
    places = _places(space)

    def near(rows: Int64) -> Tensor:
        # In doubles until the query's own place is taken off: a kilometre is 1e-8 of the product.
        return (places[torch.from_numpy(rows)] @ places.T).sub_(1.0).float()

    return _added("late_fusion", space, queries, k, weights, near, strength=lambda weight: weight**2)


def distance_kernel(space: Space, queries: Int64, k: int, weights: tuple[float, ...] = ADDED) -> Arm:
    """Retrieve by cos + w·exp(−km / 5).

    Raises:
        ValueError: the space has no coordinates.
    """
    places = _places(space)
    return _added("distance_kernel", space, queries, k, weights, lambda rows: torch.exp(_km(places, rows) / -KERNEL_KM))


def log_distance(space: Space, queries: Int64, k: int, weights: tuple[float, ...] = ADDED) -> Arm:
    """Retrieve by cos − w·log(1 + km).

    Raises:
        ValueError: the space has no coordinates.
    """
    places = _places(space)
    return _added("log_distance", space, queries, k, weights, lambda rows: -torch.log1p(_km(places, rows)))


def text_fusion(space: Space, queries: Int64, k: int, weights: tuple[float, ...] = TEXT_WEIGHTS) -> Arm:
    """Retrieve by normalise(E_ref + w·E(location text)).

    Raises:
        ValueError: the space has no location texts.
    """
    if space.texts is None:
        raise ValueError("this space has no location texts")
    return _with_texts("text_fusion", space, queries, k, weights, space.texts.embedded)


def whitened_fusion(space: Space, queries: Int64, k: int, weights: tuple[float, ...] = TEXT_WEIGHTS) -> Arm:
    """The same by whitened location texts; mean and whitening are those of training items' texts.

    Raises:
        ValueError: the space has no location texts.
    """
    if space.texts is None:
        raise ValueError("this space has no location texts")
    return _with_texts("whitened_fusion", space, queries, k, weights, _whitened(space.texts))


def whitened_all(space: Space, queries: Int64, k: int, weights: tuple[float, ...] = TEXT_WEIGHTS) -> Arm:
    """The same by texts that are whitened as all items' are: no label is read, but what is held out is known.

    Raises:
        ValueError: the space has no location texts.
    """
    if space.texts is None:
        raise ValueError("this space has no location texts")
    everything = replace(space.texts, trained=np.ones_like(space.texts.trained))
    return _with_texts("whitened_all", space, queries, k, weights, _whitened(everything))


def content_fusion(space: Space, queries: Int64, k: int, weights: tuple[float, ...] = TEXT_WEIGHTS) -> Arm:
    """Retrieve by normalise(E_ref + w·(E_content + whitened location text)).

    Raises:
        ValueError: the space has no location texts, or no content embeddings of the reference's dimension.
    """
    if space.texts is None or space.content is None or space.content.shape != space.reference.shape:
        raise ValueError("this space has no location texts, or no content embeddings beside them")
    return _with_texts("content_fusion", space, queries, k, weights, _whitened(space.texts), space.content)


def aligned(space: Space, queries: Int64, k: int, alphas: tuple[float, ...] = ALPHAS) -> Arm:
    """Retrieve in the interpolation of the reference space and the policy space, extrapolated up to α = 2.

    Raises:
        ValueError: the space has no aligned embeddings.
    """
    if space.aligned is None:
        raise ValueError("this space has no aligned embeddings")
    return _mixed("aligned", space, queries, k, alphas, space.aligned, lambda alpha: (1 - alpha, alpha))


def _added(
    name: str,
    space: Space,
    queries: Int64,
    k: int,
    knobs: tuple[float, ...],
    bonus: Bonus,
    strength: Callable[[float], float] = float,
) -> Arm:
    """Retrieve by cos + strength(knob)·bonus."""
    found = np.empty((len(knobs), len(queries), k), dtype=np.int64)
    for rows, scores in score_blocks(space.reference[queries], space.reference, queries):
        more = bonus(queries[rows])
        for position, knob in enumerate(knobs):
            found[position, rows] = top_k(torch.add(scores, more, alpha=strength(knob)), k)[0]
    return Arm(name, knobs, found)


def _with_texts(
    name: str,
    space: Space,
    queries: Int64,
    k: int,
    weights: tuple[float, ...],
    directions: Float32,
    beside: Float32 | None = None,
) -> Arm:
    """Retrieve by normalise(E_ref + w·(direction of the item's text + beside)), of (t, d) directions."""
    assert space.texts is not None
    of = space.texts.of
    mine = np.where(of[:, None] >= 0, directions[of], np.float32(0))
    if beside is not None:
        mine += beside
    return _mixed(name, space, queries, k, weights, mine, lambda weight: (1.0, weight))


def _mixed(
    name: str,
    space: Space,
    queries: Int64,
    k: int,
    knobs: tuple[float, ...],
    other: Float32,
    parts: Callable[[float], tuple[float, float]],
) -> Arm:
    """Retrieve by the cosine of a·E_ref + b·other, (a, b) = parts(knob): three products of all pairs serve every knob.

    Args:
        other: (n, d), of length 1 if a may be 0.
    """
    found = np.empty((len(knobs), len(queries), k), dtype=np.int64)
    ours, theirs = torch.from_numpy(space.reference), torch.from_numpy(other)
    squares = [(left * right).sum(dim=1) for left, right in ((ours, ours), (ours, theirs), (theirs, theirs))]
    for rows, scores in score_blocks(space.reference[queries], space.reference, queries):
        asked = torch.from_numpy(queries[rows])
        cross = ours[asked] @ theirs.T + theirs[asked] @ ours.T
        beyond = theirs[asked] @ theirs.T
        for position, knob in enumerate(knobs):
            a, b = parts(knob)
            mixed = (scores * a**2).add_(cross, alpha=a * b).add_(beyond, alpha=b**2)
            if a and b:  # else what is compared has length 1 but for rounding, which would tell equals apart
                length = squares[0] * a**2 + squares[1] * (2 * a * b) + squares[2] * b**2
                mixed /= length.clamp_(min=1e-24).sqrt_()
            mixed[torch.arange(len(asked)), asked] = -torch.inf
            found[position, rows] = top_k(mixed, k)[0]
    return Arm(name, knobs, found)


def _whitened(texts: Texts) -> Float32:
    """(t, d) directions of location texts, whitened as those of training items."""
    return Fusion.fitted(texts.embedded[texts.trained], 0.0).directions(texts.embedded)


def _places(space: Space) -> Tensor:
    if space.xyz is None:
        raise ValueError("this space has no coordinates")
    return torch.from_numpy(space.xyz)


def _km(places: Tensor, rows: Int64) -> Tensor:
    """(b, n) kilometres from the items `rows` to all."""
    chord = (places[torch.from_numpy(rows)] @ places.T).mul_(-2.0).add_(2.0).clamp_(min=0.0).sqrt_()
    return torch.arcsin((chord / 2).clamp_(max=1.0)).mul_(2 * EARTH_RADIUS_KM).float()
