"""Fitting the tokenizer over the pool: K-Means with k-means||, then the learnable residual levels."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lgsid_ray.arrays import Float32, Float64
from lgsid_ray.config.tokenizer import KMeansConfig, TokenizerConfig
from lgsid_ray.draws import random_bits
from lgsid_ray.tokenizer.kmeans import Sums, add_up, move, plus_plus, repair
from lgsid_ray.tokenizer.metrics import level_metrics
from lgsid_ray.tokenizer.pool import Pool, View
from lgsid_ray.tokenizer.residual import Adam, add_gradients, kl_slope, kl_to_uniform

ROUNDS = 5  # of k-means||; more do not help (Bahmani et al., 2012, figure 5.1)
_AVERAGE = 0.5  # weight of the past in the moving average of the soft usage


def kmeans(pool: Pool, view: View, clusters: int, config: KMeansConfig, seed: int, name: str) -> Float32:
    """(clusters, d) centroids of the view's rows: k-means|| and then Lloyd or mini-batch steps.

    Args:
        name: of the random streams, so that levels differ.
    """
    centroids = _initial(pool, view, clusters, seed, name)
    batch = min(1.0, config.batch_rows / pool.trained) if config.method == "minibatch" else 1.0
    price = np.ones(clusters, np.float32) if config.balanced else None
    seen, before = np.zeros(clusters), np.inf
    for step in range(config.iterations):
        total = add_up(pool.map("statistics", view, centroids, price, clusters, batch, f"{seed}-{name}-{step}"))
        if price is not None:
            price = _raised(price, total)
        if config.method == "minibatch":
            centroids, seen = _mini_step(centroids, total, seen)
            continue
        centroids = move(centroids, total)
        settled = before - total.inertia <= config.tolerance * total.inertia
        if price is None and settled and (total.counts > 0).all():
            break
        before = total.inertia
    return centroids


@dataclass
class Levels:
    """The learnable levels while they train: codebooks, optimiser, moving averages of the usage."""

    codebooks: list[Float32]
    adam: Adam
    soft: list[Float64] | None = None


def train_levels(
    pool: Pool, view: View, codebooks: list[Float32], config: TokenizerConfig, seed: int
) -> tuple[list[Float32], list[dict[str, float]]]:
    """Train levels 2..L by Eq 16 from their initial codebooks; returns the best codebooks and the history.

    After every epoch the whole set is measured, dead codes are put on the rows farthest from their centre, and the
    codebooks with the lowest loss so far (with hard usage) are kept; so training never ends worse than it began.

    Args:
        view: the residuals after level 1.
    """
    levels = Levels(codebooks, Adam(config.learning_rate))
    batch = min(1.0, config.batch_rows / pool.trained)
    steps = max(1, round(1 / batch))
    scale, best, best_loss, history = None, codebooks, np.inf, []
    for epoch in range(config.epochs + 1):
        errors, totals = _measure(pool, view, levels.codebooks)
        hard = [total.counts.astype(np.float64) for total in totals]
        if scale is None:
            scale = max(errors[0], 1e-12)
            temperatures = [max(config.temperature * errors[level], 1e-12) for level in range(len(codebooks))]
        kls = [kl_to_uniform(counts) for counts in hard]
        loss = errors[-1] + config.regulariser * scale * sum(kls)
        history.append(_row(epoch, errors[-1], loss, hard, levels.soft))
        if loss < best_loss:
            best, best_loss = [c.copy() for c in levels.codebooks], loss
        if epoch == config.epochs:
            break
        levels.codebooks = [
            repair(centres, total.counts == 0, total) for centres, total in zip(levels.codebooks, totals, strict=True)
        ]
        for step in range(steps):
            _step(pool, view, levels, config, temperatures, scale, batch, f"{seed}-train-{epoch}-{step}")
    return best, history


def _initial(pool: Pool, view: View, clusters: int, seed: int, name: str) -> Float32:
    """k-means|| (Bahmani et al., 2012): a few passes of oversampling, then weighted k-means++ on what they found."""
    first = pool.map("pick", view, f"first-{name}", seed, min(64, pool.trained), pool.trained)
    start = np.concatenate(first)
    candidates = start[:1] if len(start) else pool.map("pick", view, "all", seed, 1, 1)[0][:1]
    for turn in range(ROUNDS):
        phi = sum(part.inertia for part in pool.map("statistics", view, candidates, None, 0, 1.0, ""))
        if phi <= 0:
            break
        rate = 2.0 * clusters / ROUNDS * 2 / phi
        found = pool.map("oversample", view, candidates, rate, seed, f"{name}-{turn}")
        candidates = np.concatenate([candidates, *found])
    weights = np.sum([part.counts for part in pool.map("statistics", view, candidates, None, 0, 1.0, "")], axis=0)
    key = random_bits(seed, f"plus-plus-{name}", np.arange(4)).astype(np.uint64)
    return plus_plus(candidates, weights.astype(np.float64).clip(min=1e-9), clusters, np.random.default_rng(key))


def _mini_step(centroids: Float32, total: Sums, seen: Float64) -> tuple[Float32, Float64]:
    """Mini-batch step: every centroid is the mean of all the rows it ever got (Sculley, 2010)."""
    seen = seen + total.counts
    moved, hit = centroids.copy(), total.counts > 0
    moved[hit] += ((total.sums[hit] - total.counts[hit, None] * centroids[hit]) / seen[hit, None]).astype(np.float32)
    return repair(moved, seen == 0, total), seen


def _raised(price: Float32, total: Sums) -> Float32:
    """Prices after a step: up where a cluster has more than its share, down where it has less; old ones fade.

    They multiply distances (frequency-sensitive learning, Ahalt et al., 1990). A price to add would suit one density
    alone: what moves a border between sparse clusters a little empties dense ones.
    """
    crowding = np.log((total.counts + 1) / (total.counts.mean() + 1))
    raised = 0.9 * np.log(price) + 0.2 * crowding
    return np.exp(raised - raised.mean()).astype(np.float32)


def _measure(pool: Pool, view: View, codebooks: list[Float32]) -> tuple[list[float], list[Sums]]:
    """Mean squared residual before and after every level, and every level's statistics with hard assignment."""
    errors, totals = [], []
    for level, centres in enumerate(codebooks):
        here = replace(view, centres=(*view.centres, *codebooks[:level]))
        if level == 0:
            zero = np.zeros((1, centres.shape[1]), np.float32)
            errors.append(add_up(pool.map("statistics", here, zero, None, 0, 1.0, "")).inertia / pool.trained)
        total = add_up(pool.map("statistics", here, centres, None, len(centres), 1.0, ""))
        errors.append(total.inertia / pool.trained)
        totals.append(total)
    return errors, totals


def _step(
    pool: Pool,
    view: View,
    levels: Levels,
    config: TokenizerConfig,
    temperatures: list[float],
    scale: float,
    batch: float,
    tag: str,
) -> None:
    """One Adam step. The regulariser's gradient is taken at a moving average of the soft usage (see residual.py)."""
    regularised = config.regulariser > 0 and config.usage == "soft"
    slopes: Any = None
    if regularised:
        if levels.soft is None:
            first = add_gradients(pool.map("gradient", view, levels.codebooks, None, temperatures, batch, tag))
            if first.rows == 0:
                return
            levels.soft = [soft / soft.sum() for soft in first.soft]
        slopes = [kl_slope(soft) for soft in levels.soft]
    total = add_gradients(pool.map("gradient", view, levels.codebooks, slopes, temperatures, batch, tag))
    if total.rows == 0:  # a small batch may have drawn none
        return
    weight = config.regulariser * scale
    slope = [(r + weight * u) / total.rows for r, u in zip(total.recon, total.usage, strict=True)]
    fresh = [soft / soft.sum() for soft in total.soft]
    levels.soft = (
        fresh
        if levels.soft is None
        else [_AVERAGE * old + (1 - _AVERAGE) * new for old, new in zip(levels.soft, fresh, strict=True)]
    )
    levels.codebooks = levels.adam.update(levels.codebooks, slope)


def _row(epoch: int, recon: float, loss: float, hard: list[Float64], soft: list[Float64] | None) -> dict[str, float]:
    row: dict[str, float] = {"epoch": epoch, "recon": recon, "loss": loss}
    for level, counts in enumerate(hard, start=2):
        found = level_metrics(counts.astype(np.int64))
        row[f"hard_kl_{level}"], row[f"perplexity_{level}"] = found["kl"], found["perplexity"]
        row[f"usage_{level}"] = found["usage"]
        if soft is not None:
            row[f"soft_kl_{level}"] = kl_to_uniform(soft[level - 2])
    return row
