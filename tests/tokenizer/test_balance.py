"""Prices that make clusters even: against the linear programme that they solve, and the places of starving clusters."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from lgsid_ray.tokenizer.assign import assign, directions, squares
from lgsid_ray.tokenizer.balance import parted, raised, twins
from lgsid_ray.tokenizer.kmeans import statistics


def test_prices_reach_the_least_error_of_all_even_assignments() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((400, 3)).astype(np.float32)
    centroids, price, softness = 2 * rng.standard_normal((8, 3)).astype(np.float32), np.zeros(8, np.float32), 1.0
    for _ in range(300):
        price = raised(price, statistics(rows, centroids, price, softness).loads, softness)
        softness = max(0.97 * softness, 0.05)
    label = assign(rows, centroids, price)
    counts = np.bincount(label, minlength=8)
    assert abs(counts - 50).max() <= 5
    seats = np.repeat(np.arange(8), 50)
    cost = np.square(rows[:, None].astype(float) - centroids[seats]).sum(axis=2)
    best = cost[linear_sum_assignment(cost)].sum()
    assert squares(rows, centroids, label).sum() == pytest.approx(best, rel=0.02)
    assert price.min() == 0


def test_prices_rise_with_the_load_and_stay_where_loads_are_even() -> None:
    price = raised(np.zeros(3, np.float32), np.array([10.0, 20.0, 40.0]), 2.0)
    assert price == pytest.approx([0, 2 * np.log(2), 2 * np.log(4)])
    assert np.array_equal(raised(price, np.full(3, 7.0), 2.0), price)
    assert np.array_equal(raised(price, np.zeros(3), 0.0), price), "no pass has told loads yet"


def test_starving_clusters_halve_the_crowded() -> None:
    assert twins(np.array([100, 2, 90, 100, 300, 0, 108])).tolist() == [0, 1, 2, 3, 4, 4, 6]
    assert twins(np.array([10, 10, 10])).tolist() == [0, 1, 2]
    assert twins(np.array([0, 0, 400, 390, 1])).tolist() == [2, 3, 2, 3, 4]
    centroids = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    place = np.array([2, 3, 2, 3, 4])
    moved = parted(centroids, place)
    assert np.array_equal(moved[4], centroids[4])
    for one, other in ((0, 2), (1, 3)):
        assert moved[one] == pytest.approx(centroids[other], rel=2e-3)
        assert (moved[one] + moved[other]) / 2 == pytest.approx(centroids[other], rel=1e-6)
    apart = directions(moved)
    assert (apart[0] != apart[2]).any(), "by direction as well as by length"
