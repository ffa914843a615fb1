"""K-Means over shards: k-means||, then full or mini-batch steps, with prices where clusters are to be even."""

from dataclasses import dataclass, replace

import numpy as np

from lgsid_ray.arrays import Float32, Float64
from lgsid_ray.config.tokenizer import KMeansConfig
from lgsid_ray.draws import random_bits
from lgsid_ray.tokenizer.assign import directions
from lgsid_ray.tokenizer.balance import parted, raised, twins
from lgsid_ray.tokenizer.kmeans import Sums, farthest_of, move, plus_plus, repair
from lgsid_ray.tokenizer.progress import Progress
from lgsid_ray.tokenizer.residual import kl_to_uniform
from lgsid_ray.tokenizer.shard import Shards, View

ROUNDS = 5  # of k-means||; more do not help (Bahmani et al., 2012, figure 5.1)
_SOFTNESS = 0.1  # of loads, relative to the mean squared distance
_PARTING = 0.8  # share of the steps, the first, in which starving clusters are moved
_SETTLED_ROWS = 65_536  # on which prices are settled; of more rows so many are drawn
_SETTLING, _FADE = 40, 0.95  # passes at most that settle prices under centroids that stay; softness falls by each
_EVEN = 0.005  # KL to uniform, in nats, at which prices need no further pass
_ROUNDS, _GAIN = 8, 0.01  # of prices and means in turns at most, and the share of the error that a round must win
_UNEVEN = 0.1  # KL to uniform that is borne for less error: a perplexity of .9 of the clusters


@dataclass(frozen=True)
class Clusters:
    """What K-Means found.

    Attributes:
        centroids: (k, d); of length 1 where the view goes by directions.
        price: (k,) as `assign` takes it, where clusters are even; else None.
    """

    centroids: Float32
    price: Float32 | None


def kmeans(shards: Shards, view: View, clusters: int, config: KMeansConfig, seed: int, name: str) -> Clusters:
    """Clusters of the view's rows: k-means|| and then Lloyd or mini-batch steps.

    Goes on with what an interrupted call has left in the shards' folder, to the same result.

    Args:
        name: of the random streams and of what is left, so that levels differ.
    """
    now = Progress.kept(shards.out, name) if shards.out else None
    if now is None:
        price = np.zeros(clusters, np.float32) if config.balanced else None
        now = Progress(_initial(shards, view, clusters, seed, name), price, np.zeros(clusters))
    while now.step < config.iterations and not now.settled:
        now = _stepped(shards, view, now, config, f"{seed}-{name}-{now.step}")
        if shards.out:
            now.keep(shards.out, name)
    if now.price is not None and not now.even:
        found = even(shards, view, now.centroids, now.price, f"{seed}-{name}-even")
        now = replace(now, centroids=found.centroids, price=found.price, even=True)
        if shards.out:
            now.keep(shards.out, name)
    return Clusters(now.centroids, now.price)


def _stepped(shards: Shards, view: View, now: Progress, config: KMeansConfig, tag: str) -> Progress:
    """After one more step; in mini-batches its rows are drawn by `tag`."""
    mini, clusters = config.method == "minibatch", len(now.centroids)
    batch = min(1.0, config.batch_rows / shards.trained) if mini else 1.0
    total = shards.sum("statistics", view, now.centroids, now.price, now.softness, batch, tag)
    rows = int(total.counts.sum())
    if rows == 0:  # a small batch may have drawn none
        return replace(now, step=now.step + 1)
    if mini:
        centroids, seen = _mini_step(now.centroids, total, now.seen)
    else:
        centroids, seen = move(now.centroids, total), total.counts.astype(np.float64)
    price, softness, settled = now.price, now.softness, False
    if price is not None:
        price, softness = raised(price, total.loads, softness), _SOFTNESS * total.inertia / rows
        if now.step < _PARTING * config.iterations:
            place = twins(total.counts)
            centroids, price = parted(centroids, place), price[place]
            seen = seen[place] / np.bincount(place, minlength=clusters)[place]
    elif (seen == 0).any():
        far = farthest_of(shards.map("farthest", view, now.centroids, clusters, batch, tag))
        centroids = repair(centroids, seen == 0, far)
    elif not mini:
        settled = now.inertia - total.inertia <= config.tolerance * total.inertia
    if view.metric == "cosine":
        centroids = directions(centroids)
    return Progress(centroids, price, seen, total.inertia, softness, now.step + 1, settled)


def even(shards: Shards, view: View, centroids: Float32, price: Float32, tag: str) -> Clusters:
    """Even clusters, and centroids that are the means of what they hold: Lloyd's step in turns with exact prices.

    Prices alone would leave centroids where other rows were theirs: where most rows are close together and few lie far
    out, rows then go to centroids that are farther from them than the mean of all.

    Args:
        centroids: (k, d) and price: (k,), where to begin. tag: by which rows are drawn.
    """
    best, worth, before = Clusters(centroids, price), (np.inf, np.inf), np.inf
    for _ in range(_ROUNDS):
        price, total = _even_prices(shards, view, centroids, price, tag)
        uneven = max(kl_to_uniform(total.counts.astype(np.float64)), _UNEVEN)
        if (uneven, total.inertia) < worth:
            best, worth = Clusters(centroids, price), (uneven, total.inertia)
        if uneven == _UNEVEN:
            if total.inertia > (1 - _GAIN) * before:
                break
            before = total.inertia
        centroids = move(centroids, total)
        if view.metric == "cosine":
            centroids = directions(centroids)
    return best


def _even_prices(shards: Shards, view: View, centroids: Float32, price: Float32, tag: str) -> tuple[Float32, Sums]:
    """(k,) prices under which the view's rows fall most evenly to (k, d) centroids, and how; passes from `price` on."""
    best, found, least, softness, batch = price, None, np.inf, 0.0, min(1.0, _SETTLED_ROWS / shards.trained)
    for turn in range(_SETTLING):
        total = shards.sum("statistics", view, centroids, price, softness, batch, tag)
        uneven = kl_to_uniform(total.counts.astype(np.float64))
        if found is None or uneven < least:
            best, found, least = price, total, uneven
        if uneven <= _EVEN:
            break
        price = raised(price, total.loads, softness)
        softness = _SOFTNESS * _FADE**turn * total.inertia / int(total.counts.sum())
    assert found is not None
    return best, found


def member_means(shards: Shards, view: View, found: Clusters) -> Float32:
    """(k, d) mean embedding, less the view's levels, of the members of each cluster; of no member, the mean of all."""
    total = shards.sum("embedding_sums", view, found.centroids, found.price)
    overall, counts = total.sums.sum(axis=0) / total.counts.sum(), total.counts[:, None]
    return np.where(counts > 0, total.sums / np.maximum(counts, 1), overall).astype(np.float32)


def _initial(shards: Shards, view: View, clusters: int, seed: int, name: str) -> Float32:
    """k-means|| (Bahmani et al., 2012): a few passes of oversampling, then weighted k-means++ on what they found."""
    first = shards.map("pick", view, f"first-{name}", seed, min(64, shards.trained), shards.trained)
    drawn = np.concatenate(first)
    candidates = drawn[:1] if len(drawn) else shards.map("pick", view, "all", seed, 1, 1)[0][:1]
    for turn in range(ROUNDS):
        phi = shards.sum("statistics", view, candidates, None, 0.0, 1.0, "").inertia
        if phi <= 0:
            break
        rate = 2.0 * clusters / ROUNDS * 2 / phi
        found = shards.map("oversample", view, candidates, rate, seed, f"{name}-{turn}")
        candidates = np.concatenate([candidates, *found])
    weights = shards.sum("statistics", view, candidates, None, 0.0, 1.0, "").counts
    key = random_bits(seed, f"plus-plus-{name}", np.arange(4)).astype(np.uint64)
    start = plus_plus(candidates, weights.astype(np.float64).clip(min=1e-9), clusters, np.random.default_rng(key))
    return directions(start) if view.metric == "cosine" else start


def _mini_step(centroids: Float32, total: Sums, seen: Float64) -> tuple[Float32, Float64]:
    """Mini-batch step: every centroid is the mean of all the rows it ever got (Sculley, 2010)."""
    seen = seen + total.counts
    moved, hit = centroids.copy(), total.counts > 0
    moved[hit] += ((total.sums[hit] - total.counts[hit, None] * centroids[hit]) / seen[hit, None]).astype(np.float32)
    return moved, seen
