"""Exact nearest neighbours on the map: k-d tree on unit-sphere chords against scikit-learn's haversine BallTree.

Both are built and asked in one process with one thread, alternating; prints the median paired ratio of the times and
the largest difference of the distances.

    python benchmarks/neighbours.py --points 100000 --ranks 16
"""

import argparse
import time

import numpy as np
from scipy.spatial import cKDTree
from sklearn.neighbors import BallTree

from lgsid_ray.geo.distance import EARTH_RADIUS_KM, chord_to_km
from lgsid_ray.geo.neighbours import nearest_points
from lgsid_ray.geo.points import point_degrees, point_keys, point_xyz


def towns(points: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clustered latitudes and longitudes in degrees."""
    rng = np.random.default_rng(seed)
    centre = np.stack([rng.uniform(25, 49, 500), rng.uniform(-124, -70, 500)], axis=1)
    share = rng.pareto(1.1, 500) + 0.1
    which = rng.choice(500, points, p=share / share.sum())
    spread = 0.02 * np.sqrt(share[which])
    return centre[which, 0] + rng.normal(size=points) * spread, centre[which, 1] + rng.normal(size=points) * spread


def ours(keys: np.ndarray, queries: np.ndarray, ranks: int) -> np.ndarray:
    """Distances in km, (queries, ranks)."""
    return chord_to_km(nearest_points(cKDTree(point_xyz(keys)), keys, queries, ranks)[1])


def ball_tree(keys: np.ndarray, queries: np.ndarray, ranks: int) -> np.ndarray:
    """The same by scikit-learn; its first neighbour is the point itself."""
    radians = np.radians(np.stack(point_degrees(keys), axis=1))
    tree = BallTree(radians, metric="haversine")
    return tree.query(radians[queries], k=ranks + 1)[0][:, 1:] * EARTH_RADIUS_KM


def main() -> None:
    """Run the race and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=50_000)
    parser.add_argument("--ranks", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    keys = np.unique(point_keys(*towns(args.points, 0)))
    queries = np.random.default_rng(1).choice(len(keys), args.queries, replace=False)
    ratios, difference = [], 0.0
    for number in range(args.rounds + 1):  # the first round warms up
        seconds, found = [], []
        for race in (ours, ball_tree):
            start = time.perf_counter()
            found.append(race(keys, queries, args.ranks))
            seconds.append(time.perf_counter() - start)
        difference = max(difference, float(np.abs(found[0] - found[1]).max()))
        if number:
            ratios.append(seconds[1] / seconds[0])
            print(f"round {number}: ours {seconds[0]:.3f} s, BallTree {seconds[1]:.3f} s")
    print(
        f"{len(keys)} points, {args.queries} queries, {args.ranks} ranks: BallTree takes {np.median(ratios):.1f} x our "
        f"time (range {min(ratios):.1f}-{max(ratios):.1f}); largest difference {difference * 1e6:.2f} mm"
    )


if __name__ == "__main__":
    main()
