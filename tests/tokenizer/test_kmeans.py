"""K-Means on one shard against brute force, faiss and scikit-learn."""

import faiss
import numpy as np
import pytest
from sklearn.cluster import KMeans

from lgsid_ray.tokenizer import kmeans as kmeans_module
from lgsid_ray.tokenizer.kmeans import Sums, add_up, assign, cluster_sums, move, plus_plus, repair, statistics


def gauss(rows: int, dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def squared(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """All squared distances in float64, by the definition."""
    return np.square(rows[:, None].astype(np.float64) - centroids[None]).sum(axis=2)


@pytest.mark.parametrize(
    ("rows", "clusters", "dimension"), [(0, 3, 2), (1, 1, 1), (500, 1, 3), (400, 37, 5), (300, 64, 96), (9, 200, 1)]
)
@pytest.mark.parametrize("block", [64, 16_384])
def test_nearest_centroid_is_that_of_the_plain_loop(
    rows: int, clusters: int, dimension: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kmeans_module, "_BLOCK", block)
    x, mu = gauss(rows, dimension), gauss(clusters, dimension, 1)
    label, distance = assign(x, mu)
    every = squared(x, mu)
    assert np.array_equal(label, every.argmin(axis=1))
    np.testing.assert_allclose(distance, every.min(axis=1), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("settled", [1, 1 << 22])
@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1.0, 1e6, 1e15])
def test_near_ties_are_settled_exactly_lowest_first(
    settled: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kmeans_module, "_SETTLED", settled)
    rng = np.random.default_rng(0)
    mu = np.repeat(gauss(12, 33) + 2, 3, axis=0)  # every centroid three times, the copies off by a bit or not at all
    mu = np.where(rng.random(mu.shape) < 0.03, np.nextafter(mu, np.float32(9)), mu) * np.float32(scale)
    between = (mu[rng.integers(0, 36, 200)] + mu[rng.integers(0, 36, 200)]) / 2
    x = np.concatenate([mu, between, np.nextafter(between, np.float32(np.inf))])
    label, _ = assign(x, mu)
    assert np.array_equal(label, squared(x, mu).argmin(axis=1))
    alone = [int(assign(row[None], mu)[0][0]) for row in x]
    assert label.tolist() == alone
    assert label.tolist() == [int(assign(np.tile(row, (30, 1)), mu)[0][-1]) for row in x]


def test_what_is_settled_exactly_is_where_faiss_alone_would_err() -> None:
    mu = np.repeat(gauss(1, 64) + 50, 40, axis=0)
    mu[np.arange(40), np.arange(40)] += np.float32(2**-17) * np.arange(40, dtype=np.float32)
    x = np.tile(mu[::-1], (60, 1))
    assert not np.array_equal(faiss.knn(x, mu, 1)[1][:, 0], squared(x, mu).argmin(axis=1))
    label, distance = assign(x, mu)
    assert np.array_equal(label, squared(x, mu).argmin(axis=1))
    assert (distance == 0).all()


def test_price_decides_the_choice_but_is_no_part_of_the_distance() -> None:
    x, mu = gauss(300, 4), gauss(9, 4, 1)
    price = np.linspace(0.4, 3, 9).astype(np.float32)
    label, distance = assign(x, mu, price)
    every = squared(x, mu)
    assert np.array_equal(label, (every * price).argmin(axis=1))
    np.testing.assert_allclose(distance, every[np.arange(300), label], rtol=1e-5)
    assert not np.array_equal(label, assign(x, mu)[0])


def test_an_exact_hit_has_distance_zero_even_far_from_the_origin() -> None:
    mu = gauss(5, 16) + 1000 * np.arange(5, dtype=np.float32)[:, None]
    label, distance = assign(mu.copy(), mu)
    assert label.tolist() == list(range(5))
    assert distance.tolist() == [0.0] * 5


def test_cluster_sums_against_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans_module, "_BLOCK", 30)
    x, label = gauss(100, 3), np.random.default_rng(1).integers(0, 6, 100)
    expected = np.zeros((8, 3))
    for row, cluster in zip(x, label, strict=True):
        expected[cluster] += row
    np.testing.assert_allclose(cluster_sums(x, label, 8), expected, rtol=1e-12)


def test_statistics_of_shards_add_up_to_those_of_one_shard() -> None:
    x, mu = gauss(1000, 6), gauss(20, 6, 1)
    whole = statistics(x, mu, far=15)
    parts = add_up([statistics(part, mu, far=15) for part in np.split(x, [1, 400, 410, 999])])
    np.testing.assert_allclose(parts.sums, whole.sums, rtol=1e-12)
    assert np.array_equal(parts.counts, whole.counts)
    assert parts.counts.sum() == 1000
    assert parts.inertia == pytest.approx(whole.inertia, rel=1e-12)
    # The shards send more rows than one would; the farthest of all are in front.
    assert np.array_equal(parts.far[:15], whole.far)
    assert np.array_equal(parts.far_distance[:15], whole.far_distance)
    assert np.array_equal(whole.far, x[np.argsort(-squared(x, mu).min(axis=1))[:15]])


def test_lloyd_steps_equal_those_of_scikit_learn() -> None:
    x = np.concatenate([gauss(300, 8, seed) + 2 * gauss(1, 8, 100 + seed) for seed in range(6)])
    start = x[::150].copy()
    for steps in (1, 3, 12):
        centroids = start
        for _ in range(steps):
            total = add_up([statistics(part, centroids, far=len(start)) for part in np.split(x, 3)])
            assert (total.counts > 0).all()  # scikit-learn repairs otherwise
            centroids = move(centroids, total)
        reference = KMeans(len(start), init=start, n_init=1, max_iter=steps, tol=0, algorithm="lloyd").fit(x)
        np.testing.assert_allclose(centroids, reference.cluster_centers_, atol=2e-5)
        assert statistics(x, centroids).inertia == pytest.approx(reference.inertia_, rel=1e-6)
        assert np.array_equal(assign(x, centroids)[0], reference.labels_)


def test_a_step_without_empty_clusters_never_raises_the_inertia() -> None:
    x = gauss(400, 5)
    centroids, before = x[:10].copy(), np.inf
    for _ in range(15):
        total = statistics(x, centroids)
        assert total.inertia <= before * (1 + 1e-9)
        centroids, before = move(centroids, total), total.inertia


def test_empty_clusters_go_to_the_farthest_rows_never_to_two_equal_ones() -> None:
    x = np.array([[0, 0], [1, 0], [9, 0], [0, 30], [0, 30], [0, 30], [20, 0], [-1, 0]], np.float32)
    lost = [[900, 900], [901, 900], [902, 900]]
    centroids = np.array([[0, 0], *lost], np.float32)
    moved = move(centroids, statistics(x, centroids, far=8))
    assert moved[1:].tolist() == [[0, 30], [20, 0], [9, 0]]
    np.testing.assert_allclose(moved[0], x.mean(axis=0))
    assert statistics(x, moved).inertia < statistics(x, centroids).inertia / 2


def test_equal_rows_from_different_shards_repair_one_cluster() -> None:
    x = np.array([[0.0], [5.0], [5.0], [3.0]], np.float32)
    centroids = np.array([[0.0], [80.0], [90.0]], np.float32)
    total = add_up([statistics(part, centroids, far=3) for part in np.split(x, 2)])
    assert move(centroids, total)[1:].tolist() == [[5.0], [3.0]]


def test_copies_of_one_far_row_leave_places_for_others() -> None:
    x = np.repeat(np.array([[0], [9], [5], [3]], np.float32), [5, 40, 40, 1], axis=0)
    total = statistics(x, np.zeros((1, 1), np.float32), far=3)
    assert total.far.tolist() == [[9.0], [5.0], [3.0]]
    assert statistics(x, np.zeros((1, 1), np.float32)).far.shape == (0, 1)


def test_rows_without_an_error_repair_nothing() -> None:
    x = np.repeat(gauss(2, 3), 4, axis=0)
    centroids = np.concatenate([x[[0, 4]], gauss(2, 3, 1) + 50])
    total = statistics(x, centroids, far=4)
    assert total.counts.tolist() == [4, 4, 0, 0]
    assert np.array_equal(move(centroids, total), centroids)


def test_more_empty_clusters_than_rows_to_spare_leaves_the_rest() -> None:
    total = Sums(np.zeros((3, 1)), np.zeros(3, np.int64), 4.0, np.array([[7.0]], np.float32), np.array([4.0]))
    found = repair(np.zeros((3, 1), np.float32), np.array([True, False, True]), total)
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
        assert sorted(assign(groups, centroids)[0]) == list(range(5))


def test_plus_plus_moves_to_the_weighted_mean() -> None:
    rows = np.array([[0.0], [4.0]], np.float32)
    assert plus_plus(rows, np.array([3.0, 1.0]), 1, np.random.default_rng(0)) == pytest.approx(np.array([[1.0]]))


def test_plus_plus_draws_by_weight() -> None:
    rows = np.array([[0.0], [10.0], [-10.0]], np.float32)
    weights = np.array([1.0, 1.0, 1e-12])
    for seed in range(20):
        assert plus_plus(rows, weights, 2, np.random.default_rng(seed)).min() > -1
