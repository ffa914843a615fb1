"""K-Means on one shard against brute force and scikit-learn."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from lgsid_ray.tokenizer import kmeans as kmeans_module
from lgsid_ray.tokenizer.assign import assign
from lgsid_ray.tokenizer.kmeans import (
    Far,
    cluster_sums,
    farthest,
    farthest_of,
    move,
    plus_plus,
    repair,
    statistics,
)
from lgsid_ray.tokenizer.shard import added


def gauss(rows: int, dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def squared(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """All squared distances in float64, by the definition."""
    return np.square(rows[:, None].astype(np.float64) - centroids[None]).sum(axis=2)


def test_cluster_sums_against_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans_module, "BLOCK", 30)
    x, label = gauss(100, 3), np.random.default_rng(1).integers(0, 6, 100)
    expected = np.zeros((8, 3))
    for row, cluster in zip(x, label, strict=True):
        expected[cluster] += row
    np.testing.assert_allclose(cluster_sums(x, label, 8), expected, rtol=1e-12)


def test_statistics_of_shards_add_up_to_those_of_one_shard() -> None:
    x, mu = gauss(1000, 6), gauss(20, 6, 1)
    whole, cut = statistics(x, mu, softness=0.5), np.split(x, [1, 400, 410, 999])
    parts = added([statistics(part, mu, softness=0.5) for part in cut])
    np.testing.assert_allclose(parts.sums, whole.sums, rtol=1e-12)
    assert np.array_equal(parts.counts, whole.counts)
    assert parts.counts.sum() == 1000
    assert parts.inertia == pytest.approx(whole.inertia, rel=1e-12)
    np.testing.assert_allclose(parts.loads, whole.loads, rtol=1e-5)
    # The shards send more rows than one would; the farthest of all are in front.
    far, every = farthest_of([farthest(part, mu, 15) for part in cut]), farthest(x, mu, 15)
    assert np.array_equal(far.rows[:15], every.rows)
    assert np.array_equal(far.distance[:15], every.distance)
    assert np.array_equal(every.rows, x[np.argsort(-squared(x, mu).min(axis=1))[:15]])


def test_statistics_are_those_of_a_loop_with_and_without_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans_module, "BLOCK", 30)
    x, mu = gauss(200, 5) + 3, gauss(7, 5, 1) + 3
    for price in (None, np.linspace(0, 4, 7).astype(np.float32)):
        cost = squared(x, mu) + (0 if price is None else price)
        label, soft = cost.argmin(axis=1), np.exp(-cost / 0.8)
        found = statistics(x, mu, price, softness=0.8)
        assert found.counts.tolist() == np.bincount(label, minlength=7).tolist()
        np.testing.assert_allclose(found.sums, [x[label == code].sum(axis=0, dtype=float) for code in range(7)])
        assert found.inertia == pytest.approx(squared(x, mu)[np.arange(200), label].sum(), rel=1e-9)
        np.testing.assert_allclose(found.loads, (soft / soft.sum(axis=1, keepdims=True)).sum(axis=0), rtol=1e-4)
    assert statistics(x, mu).loads.tolist() == [0.0] * 7


def test_lloyd_steps_equal_those_of_scikit_learn() -> None:
    x = np.concatenate([gauss(300, 8, seed) + 2 * gauss(1, 8, 100 + seed) for seed in range(6)])
    start = x[::150].copy()
    for steps in (1, 3, 12):
        centroids = start
        for _ in range(steps):
            total = added([statistics(part, centroids) for part in np.split(x, 3)])
            assert (total.counts > 0).all()  # scikit-learn repairs otherwise
            centroids = move(centroids, total)
        reference = KMeans(len(start), init=start, n_init=1, max_iter=steps, tol=0, algorithm="lloyd").fit(x)
        np.testing.assert_allclose(centroids, reference.cluster_centers_, atol=2e-5)
        assert statistics(x, centroids).inertia == pytest.approx(reference.inertia_, rel=1e-6)
        assert np.array_equal(assign(x, centroids), reference.labels_)


def test_a_step_without_empty_clusters_never_raises_the_inertia() -> None:
    x = gauss(400, 5)
    centroids, before = x[:10].copy(), np.inf
    for _ in range(15):
        total = statistics(x, centroids)
        assert total.inertia <= before * (1 + 1e-9)
        centroids, before = move(centroids, total), total.inertia


def repaired(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Lloyd's step, empty clusters repaired."""
    total = statistics(x, centroids)
    return repair(move(centroids, total), total.counts == 0, farthest(x, centroids, len(centroids)))


def test_empty_clusters_go_to_the_farthest_rows_never_to_two_equal_ones() -> None:
    x = np.array([[0, 0], [1, 0], [9, 0], [0, 30], [0, 30], [0, 30], [20, 0], [-1, 0]], np.float32)
    lost = [[900, 900], [901, 900], [902, 900]]
    centroids = np.array([[0, 0], *lost], np.float32)
    moved = repaired(x, centroids)
    assert moved[1:].tolist() == [[0, 30], [20, 0], [9, 0]]
    np.testing.assert_allclose(moved[0], x.mean(axis=0))
    assert statistics(x, moved).inertia < statistics(x, centroids).inertia / 2


def test_equal_rows_from_different_shards_repair_one_cluster() -> None:
    x = np.array([[0.0], [5.0], [5.0], [3.0]], np.float32)
    centroids = np.array([[0.0], [80.0], [90.0]], np.float32)
    far = farthest_of([farthest(part, centroids, 3) for part in np.split(x, 2)])
    assert repair(centroids, np.array([False, True, True]), far)[1:].tolist() == [[5.0], [3.0]]


def test_copies_of_one_far_row_leave_places_for_others() -> None:
    x = np.repeat(np.array([[0], [9], [5], [3]], np.float32), [5, 40, 40, 1], axis=0)
    assert farthest(x, np.zeros((1, 1), np.float32), 3).rows.tolist() == [[9.0], [5.0], [3.0]]


def test_rows_without_an_error_repair_nothing() -> None:
    x = np.repeat(gauss(2, 3), 4, axis=0)
    centroids = np.concatenate([x[[0, 4]], gauss(2, 3, 1) + 50])
    assert statistics(x, centroids).counts.tolist() == [4, 4, 0, 0]
    assert np.array_equal(repaired(x, centroids), centroids)


def test_more_empty_clusters_than_rows_to_spare_leaves_the_rest() -> None:
    far = Far(np.array([[7.0]], np.float32), np.array([4.0]))
    found = repair(np.zeros((3, 1), np.float32), np.array([True, False, True]), far)
    assert found.tolist() == [[7.0], [0.0], [0.0]]


def test_plus_plus_with_fewer_distinct_rows_than_clusters_finds_every_row() -> None:
    distinct = gauss(3, 4)
    rows = np.repeat(distinct, [5, 1, 2], axis=0)
    for seed in range(10):
        centroids = plus_plus(rows, np.ones(8), 6, np.random.default_rng(seed))
        assert centroids.shape == (6, 4)
        assert np.isfinite(centroids).all()
        assert squared(distinct, centroids).min(axis=1).max() < 1e-10
        assert squared(centroids, distinct).min(axis=1).max() < 1e-10


def test_plus_plus_takes_one_row_of_every_far_group() -> None:
    groups = 100 * np.eye(5, dtype=np.float32)
    rows = np.repeat(groups, 20, axis=0) + 0.01 * gauss(100, 5)
    for seed in range(10):
        centroids = plus_plus(rows, np.ones(100), 5, np.random.default_rng(seed))
        assert sorted(assign(groups, centroids)) == list(range(5))


def test_plus_plus_moves_to_the_weighted_mean() -> None:
    rows = np.array([[0.0], [4.0]], np.float32)
    assert plus_plus(rows, np.array([3.0, 1.0]), 1, np.random.default_rng(0)) == pytest.approx(np.array([[1.0]]))


def test_plus_plus_draws_by_weight() -> None:
    rows = np.array([[0.0], [10.0], [-10.0]], np.float32)
    weights = np.array([1.0, 1.0, 1e-12])
    for seed in range(20):
        assert plus_plus(rows, weights, 2, np.random.default_rng(seed)).min() > -1


@pytest.mark.parametrize("count", [1, 8, 9, 64, 65, 200])
def test_parts_are_added_by_a_tree_of_fixed_shape(count: int) -> None:
    class Told(str):
        def __add__(self, other: str) -> "Told":
            return Told(f"({self} {other})")

    def expected(names: list[str]) -> str:
        if len(names) == 1:
            return names[0]
        above = []
        for begin in range(0, len(names), 8):
            told = names[begin]
            for name in names[begin + 1 : begin + 8]:
                told = f"({told} {name})"
            above.append(told)
        return expected(above)

    names = [str(number) for number in range(count)]
    assert added([Told(name) for name in names]) == expected(names)
