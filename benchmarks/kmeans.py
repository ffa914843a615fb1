"""Lloyd iterations on one shard against faiss's K-Means and scikit-learn's mini-batch K-Means.

All begin at the same centroids, in one process with the same number of threads; each rival takes turns with ours, and
who goes first changes every round. Prints the median paired ratio of the times beside the inertia that each reaches.

    python benchmarks/kmeans.py --rows 50000 --dimension 128 --clusters 256 --iterations 10
"""

import argparse
import time
from collections.abc import Callable

import faiss
import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from lgsid_ray.tokenizer.kmeans import farthest, move, repair, statistics

Fit = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def embeddings(rows: int, dimension: int, seed: int) -> np.ndarray:
    """Overlapping groups of unit vectors, (rows, dimension) float32."""
    rng = np.random.default_rng(seed)
    groups = rng.standard_normal((1000, dimension))
    noisy = groups[rng.integers(0, 1000, rows)] + 0.8 * rng.standard_normal((rows, dimension))
    return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)


def ours(rows: np.ndarray, start: np.ndarray, iterations: int) -> np.ndarray:
    """Centroids after so many Lloyd iterations, (clusters, dimension)."""
    centroids = start
    for _ in range(iterations):
        total = statistics(rows, centroids)
        centroids = move(centroids, total)
        if (total.counts == 0).any():
            centroids = repair(centroids, total.counts == 0, farthest(rows, centroids, len(start)))
    return centroids


def faiss_kmeans(rows: np.ndarray, start: np.ndarray, iterations: int) -> np.ndarray:
    """The same by faiss, on all rows."""
    fitted = faiss.Kmeans(rows.shape[1], len(start), niter=iterations, max_points_per_centroid=len(rows))
    fitted.train(rows, init_centroids=start)
    return fitted.centroids


def mini_batch(rows: np.ndarray, start: np.ndarray, iterations: int) -> np.ndarray:
    """As many passes of scikit-learn's mini-batches, none skipped."""
    fitted = MiniBatchKMeans(len(start), init=start, n_init=1, max_iter=iterations, max_no_improvement=None)
    return fitted.fit(rows).cluster_centers_.astype(np.float32)


RIVALS: dict[str, Fit] = {"faiss.Kmeans": faiss_kmeans, "MiniBatchKMeans": mini_batch}


def race(
    fits: tuple[Fit, Fit], rows: np.ndarray, start: np.ndarray, iterations: int, rounds: int
) -> tuple[list[list[float]], list[float]]:
    """Seconds per round of both, and the inertia that both reach."""
    seconds: list[list[float]] = []
    inertia = [0.0, 0.0]
    for number in range(rounds + 1):  # the first round warms up
        taken = [0.0, 0.0]
        for turn in (0, 1) if number % 2 else (1, 0):
            begun = time.perf_counter()
            centroids = fits[turn](rows, start, iterations)
            taken[turn] = time.perf_counter() - begun
            inertia[turn] = statistics(rows, centroids).inertia
        if number:
            seconds.append(taken)
    return seconds, inertia


def main() -> None:
    """Run the races and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--clusters", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="one, as in an actor of the pool")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    rows = embeddings(args.rows, args.dimension, 0)
    start = rows[np.random.default_rng(1).choice(args.rows, args.clusters, replace=False)]
    print(f"{args.rows} x {args.dimension}, k={args.clusters}, {args.iterations} iterations, threads: {args.threads}")
    with threadpool_limits(args.threads):
        for name, rival in RIVALS.items():
            seconds, inertia = race((ours, rival), rows, start, args.iterations, args.rounds)
            ratios = [theirs / mine for mine, theirs in seconds]
            middle = np.median(seconds, axis=0)
            print(
                f"{name} takes {np.median(ratios):.2f} x our time (range {min(ratios):.2f}-{max(ratios):.2f}); "
                f"medians {middle[0]:.2f} s, {middle[1]:.2f} s; inertia: ours {inertia[0]:.1f}, theirs {inertia[1]:.1f}"
            )


if __name__ == "__main__":
    main()
