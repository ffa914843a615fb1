"""Clusters of even size: prices that give every cluster its share of rows. No Ray here.

Prices are the dual variables of "every row to one cluster, n/k rows to each, at the least total squared distance". The
dual, Σ_i min_j (‖x_i - μ_j‖² + p_j) - n/k Σ_j p_j, is concave; its minimum is softened by an entropy, and then raising
p_j by softness · log(load_j / (n/k)) is Sinkhorn's step (Cuturi, 2013), which never overshoots.
"""

import numpy as np

from lgsid_ray.arrays import Float32, Float64, Int64

STARVING, CROWDED = 0.5, 1.5  # shares of n/k from which a cluster is moved beside another


def raised(price: Float32, loads: Float64, softness: float) -> Float32:
    """(k,) prices after a step: up where a cluster's load is above the mean, down where it is below; the least is 0."""
    even = max(float(loads.mean()), np.finfo(np.float64).tiny)
    raised = price + softness * np.log((loads / even).clip(min=1e-9))
    return (raised - raised.min()).astype(np.float32)


def twins(counts: Int64) -> Int64:
    """(k,) whose place each cluster is to take: its own, or for starving ones that of a crowded one, which they halve.

    A price alone would make a cluster that lies far out win rows from far away, each at a great error.
    """
    even, place = counts.mean(), np.arange(len(counts))
    order = np.argsort(counts, kind="stable")
    starving, crowded = order[counts[order] < STARVING * even], order[::-1][counts[order[::-1]] > CROWDED * even]
    pairs = min(len(starving), len(crowded))
    place[starving[:pairs]] = crowded[:pairs]
    return place


def parted(centroids: Float32, place: Int64) -> Float32:
    """(k, d) centroids at the places of `twins`, the two of one place a little to either side of it."""
    side = np.zeros(len(place), np.float32)
    moved = place != np.arange(len(place))
    side[moved], side[place[moved]] = 1, -1
    ripple = np.where(np.arange(centroids.shape[1]) % 2, -1, 1) / np.float32(1024)  # turns directions apart as well
    out: Float32 = (centroids[place] * (1 + side[:, None] * ripple)).astype(np.float32)
    return out
