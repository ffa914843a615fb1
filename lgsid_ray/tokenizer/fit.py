"""What fitting a tokenizer is made of, over shards: K-Means with k-means||, and the learnable residual levels."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lgsid_ray.arrays import Float32, Float64
from lgsid_ray.config.tokenizer import HgitConfig, KMeansConfig
from lgsid_ray.draws import random_bits
from lgsid_ray.tokenizer.kmeans import Sums, add_up, move, plus_plus, repair
from lgsid_ray.tokenizer.levels import Level, on_embeddings
from lgsid_ray.tokenizer.metrics import level_metrics
from lgsid_ray.tokenizer.residual import Adam, add_gradients, kl_slope, kl_to_uniform
from lgsid_ray.tokenizer.shard import Shards, View

ROUNDS = 5  # of k-means||; more do not help (Bahmani et al., 2012, figure 5.1)
History = list[dict[str, float]]
MEASURED_STEPS = 25  # training measures the whole set, and revives dead codes, after so many
_AVERAGE = 0.9  # weight of the past in the moving average of the soft usage


def kmeans(shards: Shards, view: View, clusters: int, config: KMeansConfig, seed: int, name: str) -> Float32:
    """(clusters, d) centroids of the view's rows: k-means|| and then Lloyd or mini-batch steps.

    Args:
        name: of the random streams, so that levels differ.
    """
    centroids = _initial(shards, view, clusters, seed, name)
    batch = min(1.0, config.batch_rows / shards.trained) if config.method == "minibatch" else 1.0
    price = np.ones(clusters, np.float32) if config.balanced else None
    seen, before = np.zeros(clusters), np.inf
    for step in range(config.iterations):
        total = add_up(shards.map("statistics", view, centroids, price, clusters, batch, f"{seed}-{name}-{step}"))
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


def residual_levels(shards: Shards, sizes: list[int], config: KMeansConfig, seed: int, view: View) -> tuple[Level, ...]:
    """The levels of `view` and, behind them, one of K-Means on what they leave for each of the other sizes."""
    levels = list(view.levels)
    for number, size in enumerate(sizes[len(levels) :], start=len(levels) + 1):
        here = replace(view, levels=tuple(levels))
        levels.append(on_embeddings(kmeans(shards, here, size, config, seed, f"level-{number}")))
    return tuple(levels)


@dataclass
class Learning:
    """The learnable levels while they train.

    Attributes:
        scale: mean squared residual that they start from. temperatures: τ per level, absolute.
        soft: moving averages of the usage.
    """

    codebooks: list[Float32]
    adam: Adam
    scale: float
    temperatures: list[float]
    soft: list[Float64] | None = None


def train_levels(
    shards: Shards, view: View, codebooks: list[Float32], config: HgitConfig, seed: int
) -> tuple[list[Float32], History]:
    """Train levels 2..L by Eq 16 from their initial codebooks; returns the best codebooks and the history.

    Every so often the whole set is measured, dead codes are put on the rows farthest from their centre, and the
    codebooks with the lowest loss so far (with hard usage) are kept; so training never ends worse than it began.
    The learning rate falls to nothing in a straight line.

    Args:
        view: the residuals after level 1.
    """
    errors, _ = _measure(shards, view, codebooks)
    temperatures = [max(config.temperature * error, 1e-12) for error in errors[:-1]]
    now = Learning(codebooks, Adam(config.learning_rate), max(errors[0], 1e-12), temperatures)
    best, best_loss, history = codebooks, np.inf, []
    for step in range(config.steps + 1):
        if step % MEASURED_STEPS == 0 or step == config.steps:
            errors, totals = _measure(shards, view, now.codebooks)
            hard = [total.counts.astype(np.float64) for total in totals]
            loss = sum(errors[1:]) + config.regulariser * now.scale * sum(map(kl_to_uniform, hard))
            history.append(_row(step, errors[1:], loss, hard, now.soft))
            if loss < best_loss:
                best, best_loss = [c.copy() for c in now.codebooks], loss
            if step == config.steps:
                break
            now.codebooks = [
                repair(centres, total.counts == 0, total) for centres, total in zip(now.codebooks, totals, strict=True)
            ]
        _step(shards, view, now, config, f"{seed}-train-{step}", 1 - step / config.steps)
    return best, history


def _initial(shards: Shards, view: View, clusters: int, seed: int, name: str) -> Float32:
    """k-means|| (Bahmani et al., 2012): a few passes of oversampling, then weighted k-means++ on what they found."""
    first = shards.map("pick", view, f"first-{name}", seed, min(64, shards.trained), shards.trained)
    start = np.concatenate(first)
    candidates = start[:1] if len(start) else shards.map("pick", view, "all", seed, 1, 1)[0][:1]
    for turn in range(ROUNDS):
        phi = sum(part.inertia for part in shards.map("statistics", view, candidates, None, 0, 1.0, ""))
        if phi <= 0:
            break
        rate = 2.0 * clusters / ROUNDS * 2 / phi
        found = shards.map("oversample", view, candidates, rate, seed, f"{name}-{turn}")
        candidates = np.concatenate([candidates, *found])
    weights = np.sum([part.counts for part in shards.map("statistics", view, candidates, None, 0, 1.0, "")], axis=0)
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


def _measure(shards: Shards, view: View, codebooks: list[Float32]) -> tuple[list[float], list[Sums]]:
    """Mean squared residual before and after every level, and every level's statistics with hard assignment."""
    errors, totals = [], []
    for level, centres in enumerate(codebooks):
        here = replace(view, levels=(*view.levels, *map(on_embeddings, codebooks[:level])))
        if level == 0:
            zero = np.zeros((1, centres.shape[1]), np.float32)
            errors.append(add_up(shards.map("statistics", here, zero, None, 0, 1.0, "")).inertia / shards.trained)
        total = add_up(shards.map("statistics", here, centres, None, len(centres), 1.0, ""))
        errors.append(total.inertia / shards.trained)
        totals.append(total)
    return errors, totals


def _step(shards: Shards, view: View, now: Learning, config: HgitConfig, tag: str, fade: float) -> None:
    """One Adam step at `fade` times the learning rate.

    The regulariser's gradient is taken at a moving average of the soft usage (see residual.py).
    """
    batch = min(1.0, config.batch_rows / shards.trained)
    regularised = config.regulariser > 0 and config.usage == "soft"
    slopes: Any = None
    if regularised:
        if now.soft is None:
            first = add_gradients(shards.map("gradient", view, now.codebooks, None, now.temperatures, batch, tag))
            if first.rows == 0:
                return
            now.soft = [soft / soft.sum() for soft in first.soft]
        slopes = [kl_slope(soft) for soft in now.soft]
    total = add_gradients(shards.map("gradient", view, now.codebooks, slopes, now.temperatures, batch, tag))
    if total.rows == 0:  # a small batch may have drawn none
        return
    weight = config.regulariser * now.scale
    slope = [(r + weight * u) / total.rows for r, u in zip(total.recon, total.usage, strict=True)]
    fresh = [soft / soft.sum() for soft in total.soft]
    now.soft = (
        fresh
        if now.soft is None
        else [_AVERAGE * old + (1 - _AVERAGE) * new for old, new in zip(now.soft, fresh, strict=True)]
    )
    now.codebooks = now.adam.update(now.codebooks, slope, fade)


def _row(
    step: int, errors: list[float], loss: float, hard: list[Float64], soft: list[Float64] | None
) -> dict[str, float]:
    row: dict[str, float] = {"step": step, "loss": loss}
    for level, counts in enumerate(hard, start=2):
        row[f"recon_{level}"] = errors[level - 2]
        found = level_metrics(counts.astype(np.int64))
        row[f"hard_kl_{level}"], row[f"perplexity_{level}"] = found["kl"], found["perplexity"]
        row[f"usage_{level}"] = found["usage"]
        if soft is not None:
            row[f"soft_kl_{level}"] = kl_to_uniform(soft[level - 2])
    return row
