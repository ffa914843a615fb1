"""The learnable residual levels (Eq 10-16) on one shard, and Adam on the driver. No Ray here."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lgsid_ray.arrays import Float32, Float64
from lgsid_ray.tokenizer.kmeans import cluster_sums
from lgsid_ray.tokenizer.levels import on_embeddings, walk

_BLOCK = 16_384


@dataclass(frozen=True)
class Gradient:
    """One shard's share of a gradient step; adds up over shards.

    Attributes:
        rows: how many rows took part. errors: per level (k,), sums of the squared residuals ‖R^(l)‖² behind each code.
        counts: per level (k,), how many rows have each code.
        recon: per level (k, d), gradient of all those sums together. usage: of the regulariser's part.
        soft: per level (k,), sums of the soft usage (Eq 14 with softmax(-d²/τ)).
    """

    rows: int
    errors: list[Float64]
    counts: list[Float64]
    recon: list[Float64]
    usage: list[Float64]
    soft: list[Float64]

    def __add__(self, other: "Gradient") -> "Gradient":
        def both(mine: list[Any], theirs: list[Any]) -> list[Any]:
            return [one + another for one, another in zip(mine, theirs, strict=True)]

        return Gradient(
            self.rows + other.rows,
            both(self.errors, other.errors),
            both(self.counts, other.counts),
            both(self.recon, other.recon),
            both(self.usage, other.usage),
            both(self.soft, other.soft),
        )


def gradient(
    rows: Float32, codebooks: list[Float32], slopes: list[Float64] | None, temperatures: list[float]
) -> Gradient:
    """Gradients of reconstruction and usage with respect to all learnable centres.

    Reconstruction is Eq 13 summed over prefixes: by the last level alone, short prefixes would be given up for it.

    Args:
        rows: (n, d) residuals after level 1. codebooks: the learnable levels.
        slopes: per level (k,), dKL/dp at the current usage p: the regulariser enters as the linear function
            Σ_k slope_k p_k, which has the same gradient; None leaves it out (or Eq 14's histogram: gradient zero).
        temperatures: τ per level, absolute.
    """
    levels = [on_embeddings(centres) for centres in codebooks]
    recon = [np.zeros(c.shape) for c in codebooks]
    usage = [np.zeros(c.shape) for c in codebooks]
    soft = [np.zeros(len(c)) for c in codebooks]
    errors = [np.zeros(len(c)) for c in codebooks]
    counts = [np.zeros(len(c)) for c in codebooks]
    for start in range(0, len(rows), _BLOCK):
        left, steps = rows[start : start + _BLOCK], []
        for number, (label, after) in enumerate(walk(levels, left)):
            slope = None if slopes is None else slopes[number]
            share, pull = _soft_usage(left, codebooks[number], slope, temperatures[number])
            soft[number] += share
            usage[number] += pull
            size = len(codebooks[number])
            errors[number] += np.bincount(label, np.square(after, dtype=np.float64).sum(axis=1), size)
            counts[number] += np.bincount(label, minlength=size)
            steps.append((label, after))
            left = after
        behind = np.zeros_like(left)  # a centre stands in the residual of its level and of all behind it
        for number, (label, after) in reversed(list(enumerate(steps))):
            behind += after
            recon[number] -= 2.0 * cluster_sums(behind, label, len(codebooks[number]))
    return Gradient(len(rows), errors, counts, recon, usage, soft)


def _soft_usage(rows: Float32, centres: Float32, slope: Float64 | None, temperature: float) -> tuple[Float64, Float64]:
    """Σ softmax(-d²/τ) over rows, and the gradient of Σ_k slope_k times it with respect to the centres.

    With q the softmax of a row, the gradient by d²_k is -q_k (slope_k - Σ_j q_j slope_j) / τ, and that of d²_k by μ_k
    is 2 (μ_k - x).
    """
    squares = np.square(rows).sum(axis=1)[:, None] + np.square(centres).sum(axis=1) - 2 * rows @ centres.T
    use = torch.softmax(torch.from_numpy(squares / -temperature), dim=1).numpy()
    share = use.sum(axis=0, dtype=np.float64)
    if slope is None:
        return share, np.zeros(centres.shape)
    steep = slope.astype(np.float32)
    pull = use * ((use @ steep)[:, None] - steep) / temperature
    return share, 2.0 * (pull.sum(axis=0, dtype=np.float64)[:, None] * centres - pull.T @ rows)


def kl_to_uniform(usage: Float64) -> float:
    """KL(p ‖ uniform) in nats of a usage histogram (Eq 15); 0 for even use, log k when one code has all."""
    p = usage / usage.sum()
    return float((p[p > 0] * np.log(p[p > 0] * len(p))).sum())


def kl_slope(usage: Float64) -> Float64:
    """(k,) derivative of KL(p ‖ uniform) with respect to p, constants left out."""
    p = (usage / usage.sum()).clip(min=1e-12)
    return np.log(p * len(p))


def radii(errors: Float64, counts: Float64, dimension: int) -> Float64:
    """(k,) root mean squared entry of what each code's rows leave; of a code without rows that of all rows.

    Args:
        errors: (k,) sums of squared residuals. counts: (k,) rows.
    """
    whole = errors.sum() / max(counts.sum(), 1)
    return np.sqrt(np.where(counts > 0, errors / np.maximum(counts, 1), whole) / dimension)


@dataclass
class Adam:
    """Adam (Kingma and Ba, 2015) on a list of codebooks, at a rate of its own for every code.

    A step of Adam has the length of its rate, whatever the gradient's. Where a few codes lie far out, among rows that
    little else is near, a rate that suits them throws the others out of the small cells that most rows are in; so a
    code's rate goes with the size of its own cell.
    """

    learning_rate: float
    step: int = 0
    first: list[Float64] = field(default_factory=list)
    second: list[Float64] = field(default_factory=list)

    def update(self, codebooks: list[Float32], gradients: list[Float64], sizes: list[Float64]) -> list[Float32]:
        """The codebooks after one step.

        Args:
            sizes: per level (k,), what the learning rate is relative to, see `radii`.
        """
        if not self.first:
            self.first = [np.zeros(g.shape) for g in gradients]
            self.second = [np.zeros(g.shape) for g in gradients]
        self.step += 1
        moved = []
        for level, (centres, slope, cell) in enumerate(zip(codebooks, gradients, sizes, strict=True)):
            self.first[level] = 0.9 * self.first[level] + 0.1 * slope
            self.second[level] = 0.999 * self.second[level] + 0.001 * np.square(slope)
            mean = self.first[level] / (1 - 0.9**self.step)
            size = np.sqrt(self.second[level] / (1 - 0.999**self.step))
            rate = self.learning_rate * cell[:, None]
            moved.append((centres - rate * mean / (size + 1e-12)).astype(np.float32))
        return moved
