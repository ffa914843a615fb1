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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lgsid_ray.arrays import Float32, Int64
from lgsid_ray.draws import random_bits
from lgsid_ray.evaluate.retrieval import Best, Finder, Maker, apart, top_k
from lgsid_ray.evaluate.space import Corpus, Space
from lgsid_ray.geo.distance import EARTH_RADIUS_KM

FRONTIER_K = 5
"""Similarity@5 and T@5 span the frontiers."""
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

Knobs = tuple[float, ...]


@dataclass(frozen=True)
class Arm:
    """One frontier: the positions of its knob, and what is retrieved at each."""

    knobs: Knobs
    make: Maker


def arms(corpus: Corpus) -> dict[str, Arm]:
    """Those that can be told of a catalogue, by name (see ARMS of artifacts/frontier.py)."""
    found = {
        "oracle": Arm(GAMMAS, partial(oracle, knobs=GAMMAS)),
        "levels": Arm(ADDED, partial(levels, knobs=ADDED)),
        "label_fusion": Arm(ADDED, partial(label_fusion, knobs=ADDED)),
    }
    if "content" in corpus.spaces:
        found["content_oracle"] = Arm(GAMMAS, partial(content_oracle, knobs=GAMMAS))
    if corpus.xyz is not None:
        found["late_fusion"] = Arm(WEIGHTS, partial(late_fusion, knobs=WEIGHTS))
        found["distance_kernel"] = Arm(ADDED, partial(distance_kernel, knobs=ADDED))
        found["log_distance"] = Arm(ADDED, partial(log_distance, knobs=ADDED))
    if corpus.texts is not None:
        texts = {
            "text_fusion": corpus.texts.embedded,
            "whitened_fusion": corpus.texts.white,
            "whitened_all": corpus.texts.white_all,
        }
        for name, directions in texts.items():
            make = partial(text_fusion, directions=directions, knobs=TEXT_WEIGHTS)
            found[name] = Arm(TEXT_WEIGHTS, make)
        if "content" in corpus.spaces:
            make = partial(content_fusion, directions=corpus.texts.white, knobs=TEXT_WEIGHTS)
            found["content_fusion"] = Arm(TEXT_WEIGHTS, make)
    if "aligned" in corpus.spaces:
        found["aligned"] = Arm(ALPHAS, partial(aligned, knobs=ALPHAS))
    return found


def oracle(items: Space, asked: Space, knobs: Knobs) -> Finder:
    """Re-rank by Similarity + γ·[same district]."""
    return _by_district(items, asked, knobs, lambda rows, cosines: cosines)


def content_oracle(items: Space, asked: Space, knobs: Knobs) -> Finder:
    """Re-rank by ContentSimilarity + γ·[same district]."""
    assert items.content is not None
    assert asked.content is not None
    columns, queries = torch.from_numpy(items.content).T, torch.from_numpy(asked.content)
    return _by_district(items, asked, knobs, lambda rows, cosines: apart(queries[rows] @ columns, cosines))


def _by_district(items: Space, asked: Space, knobs: Knobs, kept: Callable[[slice, Tensor], Tensor]) -> Finder:
    """The best by what is kept + γ·[same district].

    Within the district and outside it the order is the same whatever γ is, so the best k of either side hold the best
    k of all items: two searches serve every γ.
    """
    district, own = (torch.from_numpy(space.labels[:, -1].copy()) for space in (items, asked))

    def find(rows: slice, cosines: Tensor) -> Iterator[Best]:
        mine, scores = own[rows][:, None], kept(rows, cosines)
        same = (district[None, :] == mine) & (mine >= 0)
        inside = top_k(scores.masked_fill(~same, -torch.inf), FRONTIER_K)
        outside = top_k(scores.masked_fill(same, -torch.inf), FRONTIER_K)
        columns = np.concatenate([inside[0], outside[0]], axis=1)
        merged = np.concatenate([inside[1], outside[1]], axis=1)
        bonus = np.concatenate([np.ones_like(inside[1]), np.zeros_like(outside[1])], axis=1)
        for gamma in knobs:
            score = merged + np.float32(gamma) * bonus
            order = np.lexsort((columns, -score), axis=1)[:, :FRONTIER_K]
            yield np.take_along_axis(columns, order, axis=1), np.take_along_axis(score, order, axis=1)

    return find


def levels(items: Space, asked: Space, knobs: Knobs) -> Finder:
    """Re-rank by Similarity + γ·(district + ½ city + ¼ province)."""
    theirs, ours = (torch.from_numpy(np.ascontiguousarray(space.labels.T)) for space in (items, asked))

    def same(rows: slice) -> Tensor:
        bonus = torch.zeros(ours[0, rows].shape[0], len(items))
        for level, worth in enumerate((0.25, 0.5, 1.0)):
            own = ours[level, rows][:, None]
            bonus += worth * ((theirs[level] == own) & (own >= 0))
        return bonus

    return _added(knobs, same)


def label_fusion(items: Space, asked: Space, knobs: Knobs) -> Finder:
    """Retrieve by the cosine of [E_ref, w·h], which orders by cos + w²·(h·h'); w² is the knob.

    h is the mean over the three levels of a label path's 64 signs, drawn by its code and scaled to length 1; an
    unknown label has none.
    """
    theirs, ours = (torch.from_numpy(_signs(space.labels)) for space in (items, asked))
    return _added(knobs, lambda rows: ours[rows] @ theirs.T)


def _signs(labels: Int64) -> Float32:
    signs = np.zeros((len(labels), 64), np.float32)
    for level, column in enumerate(labels.T):
        bits = random_bits(0, f"label-fusion-{level}", column)[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
        signs += np.where(column[:, None] >= 0, bits.astype(np.float32) * 2 - 1, 0) / (8 * np.sqrt(3, dtype=np.float32))
    return signs


def late_fusion(items: Space, asked: Space, knobs: Knobs) -> Finder:
    """Retrieve by the cosine of [E_ref, w·xyz]; its norms are all equal, so it orders by cos + w²·(xyz·xyz')."""
    theirs, ours = _places(items), _places(asked)
    # In doubles until the query's own place is taken off: a kilometre is 1e-8 of the product.
    return _added(knobs, lambda rows: (ours[rows] @ theirs.T).sub_(1.0).float(), strength=lambda weight: weight**2)


def distance_kernel(items: Space, asked: Space, knobs: Knobs) -> Finder:
    """Retrieve by cos + w·exp(−km / 5)."""
    theirs, ours = _places(items), _places(asked)
    return _added(knobs, lambda rows: torch.exp(_km(ours[rows], theirs) / -KERNEL_KM))


def log_distance(items: Space, asked: Space, knobs: Knobs) -> Finder:
    """Retrieve by cos − w·log(1 + km)."""
    theirs, ours = _places(items), _places(asked)
    return _added(knobs, lambda rows: -torch.log1p(_km(ours[rows], theirs)))


def text_fusion(items: Space, asked: Space, directions: Float32, knobs: Knobs) -> Finder:
    """Retrieve by normalise(E_ref + w·the direction of the item's text), of (t, d) directions of the distinct texts."""
    return _mixed(
        (items.reference, texts_of(items, directions)),
        (asked.reference, texts_of(asked, directions)),
        knobs,
        lambda weight: (1.0, weight),
    )


def content_fusion(items: Space, asked: Space, directions: Float32, knobs: Knobs) -> Finder:
    """Retrieve by normalise(E_ref + w·(E_content + the direction of the item's text))."""
    theirs, ours = (space.content for space in (items, asked))
    assert theirs is not None
    assert ours is not None
    return _mixed(
        (items.reference, theirs + texts_of(items, directions)),
        (asked.reference, ours + texts_of(asked, directions)),
        knobs,
        lambda weight: (1.0, weight),
    )


def aligned(items: Space, asked: Space, knobs: Knobs) -> Finder:
    """Retrieve in the interpolation of the reference space and the policy space, extrapolated up to α = 2."""
    return _mixed(
        (items.reference, items.by("aligned")),
        (asked.reference, asked.by("aligned")),
        knobs,
        lambda alpha: (1 - alpha, alpha),
    )


def texts_of(items: Space, directions: Float32) -> Float32:
    """(n, d) the direction of each item's location text, of (t, d) directions; 0 for an item that has none."""
    assert items.said is not None
    return np.where(items.said[:, None] >= 0, directions[items.said], np.float32(0))


def _added(knobs: Knobs, bonus: Callable[[slice], Tensor], strength: Callable[[float], float] = float) -> Finder:
    """Retrieve by cos + strength(knob)·bonus, of which `bonus` has (b, n) float32 for some queries."""

    def find(rows: slice, cosines: Tensor) -> Iterator[Best]:
        more, scores = bonus(rows), torch.empty_like(cosines)
        for knob in knobs:
            yield top_k(torch.add(cosines, more, alpha=strength(knob), out=scores), FRONTIER_K)

    return find


def _mixed(
    items: tuple[Float32, Float32],
    asked: tuple[Float32, Float32],
    knobs: Knobs,
    parts: Callable[[float], tuple[float, float]],
) -> Finder:
    """Retrieve by the cosine of a·E_ref + b·other, (a, b) = parts(knob)."""
    mixture = Mixture(*items)
    queries = [torch.from_numpy(part) for part in asked]

    def find(rows: slice, cosines: Tensor) -> Iterator[Best]:
        one, other = (part[rows] for part in queries)
        products = mixture.products(one, other, cosines)
        for knob in knobs:
            yield top_k(mixture.scores(products, *parts(knob)), FRONTIER_K)

    return find


class Mixture:
    """Items as a·x + b·y: four products with all queries serve every a and b."""

    def __init__(self, x: Float32, y: Float32) -> None:
        """Of (n, d) x of length 1 and y, of length 1 if a may be 0."""
        self._scores = torch.empty(0)
        self._x, self._y = torch.from_numpy(x), torch.from_numpy(y)
        pairs = ((self._x, self._x), (self._x, self._y), (self._y, self._y))
        self._squares = [(left * right).sum(dim=1) for left, right in pairs]

    def products(self, x: Tensor, y: Tensor | None, cosines: Tensor) -> list[Tensor]:
        """What `scores` needs of (b, d) queries a·x + b·y, or of x alone; `cosines` are those of x's."""
        if y is None:
            return [cosines, x @ self._y.T]
        return [cosines, (x @ self._y.T).addmm_(y, self._x.T), y @ self._y.T]

    def scores(self, products: list[Tensor], a: float, b: float) -> Tensor:
        """(b, n) inner products of the queries and the items, the items scaled to length 1; the next call writes there.

        Where a query meets itself, cosines are -inf, and so are these.
        """
        if a == 0:
            return apart(products[-1] * b ** (len(products) - 1), products[0])
        powers = (a * a, a * b, b * b) if len(products) == 3 else (a, b)
        if self._scores.shape != products[0].shape:
            self._scores = torch.empty_like(products[0])
        mixed = torch.mul(products[0], powers[0], out=self._scores)
        for product, power in zip(products[1:], powers[1:], strict=True):
            mixed.add_(product, alpha=power)
        if b:  # else what is compared has length 1 but for rounding, which would tell equals apart
            xx, xy, yy = self._squares
            mixed /= (xx * a**2 + xy * (2 * a * b) + yy * b**2).clamp_(min=1e-24).sqrt_()
        return mixed


def _places(space: Space) -> Tensor:
    assert space.xyz is not None
    return torch.from_numpy(space.xyz)


def _km(ours: Tensor, theirs: Tensor) -> Tensor:
    """(b, n) kilometres between points on the unit sphere."""
    chord = (ours @ theirs.T).mul_(-2.0).add_(2.0).clamp_(min=0.0).sqrt_()
    return torch.arcsin((chord / 2).clamp_(max=1.0)).mul_(2 * EARTH_RADIUS_KM).float()
