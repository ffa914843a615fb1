"""Residual levels over shards: by K-Means, and learnt by gradient steps."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lgsid_ray.arrays import Float32, Float64
from lgsid_ray.config.tokenizer import HgitConfig, KMeansConfig
from lgsid_ray.tokenizer.clustering import even, kmeans
from lgsid_ray.tokenizer.kmeans import Sums, farthest_of, repair
from lgsid_ray.tokenizer.levels import Level, on_embeddings
from lgsid_ray.tokenizer.metrics import level_metrics
from lgsid_ray.tokenizer.residual import Adam, kl_slope, kl_to_uniform, radii
from lgsid_ray.tokenizer.shard import Shards, View

History = list[dict[str, float]]
MEASURED_STEPS = 25  # training measures the whole set, and revives dead codes, after so many
_AVERAGE = 0.9  # weight of the past in the moving average of the soft usage


def residual_levels(shards: Shards, sizes: list[int], config: KMeansConfig, seed: int, view: View) -> tuple[Level, ...]:
    """The levels of `view` and, behind them, one of K-Means on what they leave for each of the other sizes."""
    levels = list(view.levels)
    for number, size in enumerate(sizes[len(levels) :], start=len(levels) + 1):
        here = replace(view, levels=tuple(levels))
        found = kmeans(shards, here, size, config, seed, f"level-{number}")
        levels.append(on_embeddings(found.centroids, found.price))
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
            now.codebooks = _revived(shards, view, now.codebooks, totals)
        _step(shards, view, now, config, f"{seed}-train-{step}", 1 - step / config.steps)
    return best, history


def even_levels(shards: Shards, view: View, levels: tuple[Level, ...], seed: int) -> tuple[Level, ...]:
    """Priced levels behind those of `view`, made even again from where their codebooks are now."""
    found = view.levels
    for level in levels:
        assert level.price is not None
        here = replace(view, levels=found)
        clusters = even(shards, here, level.codebook, level.price, f"{seed}-learnt-{len(found)}")
        found = (*found, on_embeddings(clusters.centroids, clusters.price))
    return found[len(view.levels) :]


def _measure(shards: Shards, view: View, codebooks: list[Float32]) -> tuple[list[float], list[Sums]]:
    """Mean squared residual before and after every level, and every level's statistics with hard assignment."""
    zero = np.zeros((1, codebooks[0].shape[1]), np.float32)
    errors = [shards.sum("statistics", view, zero, None, 0.0, 1.0, "").inertia / shards.trained]
    totals = []
    for here, centres in _before(view, codebooks):
        totals.append(shards.sum("statistics", here, centres, None, 0.0, 1.0, ""))
        errors.append(totals[-1].inertia / shards.trained)
    return errors, totals


def _revived(shards: Shards, view: View, codebooks: list[Float32], totals: list[Sums]) -> list[Float32]:
    """The codebooks, codes without an item put on the rows farthest from theirs."""
    revived = []
    for (here, centres), total in zip(_before(view, codebooks), totals, strict=True):
        dead = total.counts == 0
        if dead.any():
            far = farthest_of(shards.map("farthest", here, centres, len(centres), 1.0, ""))
            centres = repair(centres, dead, far)
        revived.append(centres)
    return revived


def _before(view: View, codebooks: list[Float32]) -> list[tuple[View, Float32]]:
    """What every codebook is compared with, and the codebook."""
    levels = list(map(on_embeddings, codebooks))
    return [(replace(view, aside=tuple(levels[:n])), centres) for n, centres in enumerate(codebooks)]


def _step(shards: Shards, view: View, now: Learning, config: HgitConfig, tag: str, fade: float) -> None:
    """One Adam step at `fade` times the learning rate.

    The regulariser's gradient is taken at a moving average of the soft usage (see residual.py).
    """
    batch = min(1.0, config.batch_rows / shards.trained)
    regularised = config.regulariser > 0 and config.usage == "soft"
    slopes: Any = None
    if regularised:
        if now.soft is None:
            first = shards.sum("gradient", view, now.codebooks, None, now.temperatures, batch, tag)
            if first.rows == 0:
                return
            now.soft = [soft / soft.sum() for soft in first.soft]
        slopes = [kl_slope(soft) for soft in now.soft]
    total = shards.sum("gradient", view, now.codebooks, slopes, now.temperatures, batch, tag)
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
    dimension = now.codebooks[0].shape[1]
    cells = [radii(errors, counts, dimension) for errors, counts in zip(total.errors, total.counts, strict=True)]
    now.codebooks = now.adam.update(now.codebooks, slope, [fade * cell for cell in cells])


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
