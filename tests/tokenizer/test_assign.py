"""Which code a row goes to, against the plain loop in float64: prices, near ties, batches."""

import faiss
import numpy as np
import pytest

from lgsid_ray.tokenizer import assign as assign_module
from lgsid_ray.tokenizer.assign import assign, directions, squares
from lgsid_ray.tokenizer.levels import ASSIGNERS


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
    monkeypatch.setattr(assign_module, "BLOCK", block)
    x, mu = gauss(rows, dimension), gauss(clusters, dimension, 1)
    label = assign(x, mu)
    distance = squares(x, mu, label)
    every = squared(x, mu)
    assert np.array_equal(label, every.argmin(axis=1))
    np.testing.assert_allclose(distance, every.min(axis=1), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("settled", [1, 1 << 22])
@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1.0, 1e6, 1e15])
def test_near_ties_are_settled_exactly_lowest_first(
    settled: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assign_module, "_SETTLED", settled)
    rng = np.random.default_rng(0)
    mu = np.repeat(gauss(12, 33) + 2, 3, axis=0)  # every centroid three times, the copies off by a bit or not at all
    mu = np.where(rng.random(mu.shape) < 0.03, np.nextafter(mu, np.float32(9)), mu) * np.float32(scale)
    between = (mu[rng.integers(0, 36, 200)] + mu[rng.integers(0, 36, 200)]) / 2
    x = np.concatenate([mu, between, np.nextafter(between, np.float32(np.inf))])
    label = assign(x, mu)
    assert np.array_equal(label, squared(x, mu).argmin(axis=1))
    alone = [int(assign(row[None], mu)[0]) for row in x]
    assert label.tolist() == alone
    assert label.tolist() == [int(assign(np.tile(row, (30, 1)), mu)[-1]) for row in x]


def test_what_is_settled_exactly_is_where_faiss_alone_would_err() -> None:
    mu = np.repeat(gauss(1, 64) + 50, 40, axis=0)
    mu[np.arange(40), np.arange(40)] += np.float32(2**-17) * np.arange(40, dtype=np.float32)
    x = np.tile(mu[::-1], (60, 1))
    assert not np.array_equal(faiss.knn(x, mu, 1)[1][:, 0], squared(x, mu).argmin(axis=1))
    label = assign(x, mu)
    distance = squares(x, mu, label)
    assert np.array_equal(label, squared(x, mu).argmin(axis=1))
    assert (distance == 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_prices_are_added_to_squared_distances(metric: str) -> None:
    x, mu = gauss(300, 4), directions(gauss(9, 4, 1))
    price = np.linspace(0, 1.2, 9).astype(np.float32)
    rows = x if metric == "euclidean" else x / np.linalg.norm(x, axis=1, keepdims=True)
    label = ASSIGNERS["priced", metric](x, mu, price)
    assert np.array_equal(label, (squared(rows, mu) + price).argmin(axis=1))
    assert not np.array_equal(label, ASSIGNERS["nearest", metric](x, mu, None))


@pytest.mark.parametrize("scale", [1e-25, 1e-21, 1e-3, 1.0, 1e6, 1e15])
def test_near_ties_under_prices_are_settled_exactly(scale: float) -> None:
    rng = np.random.default_rng(0)
    mu = gauss(40, 33)
    mu[20:] = mu[:20] + (1e-3 * gauss(20, 33, 1))
    x = (mu[rng.integers(0, 40, 600)] + 0.1 * gauss(600, 33, 2)).astype(np.float32)
    apart = squared(x, mu)
    # A price for which the first row is indifferent between two codes, as near as float32 can say it.
    first, second = np.argsort(apart[0])[:2]
    price = np.zeros(40, np.float32)
    price[first] = apart[0, second] - apart[0, first]
    price += np.float32(1) - price.min()
    # By powers of two, so that the near ties stay near.
    factor = np.float32(2.0 ** round(np.log2(scale)))
    x, mu, price = x * factor, mu * factor, (price.astype(float) * float(factor) ** 2).astype(np.float32)
    label = assign(x, mu, price)
    assert np.array_equal(label, (squared(x, mu) + price).argmin(axis=1))
    assert label.tolist() == [int(assign(row[None], mu, price)[0]) for row in x]
    order = rng.permutation(600)
    assert np.array_equal(assign(x[order], mu, price), label[order])


def test_directions_have_length_one_and_zero_stays_zero() -> None:
    x = gauss(50, 7) * np.logspace(-15, 15, 50, dtype=np.float32)[:, None]
    x[3] = 0
    found = directions(x)
    assert np.linalg.norm(found[np.arange(50) != 3], axis=1) == pytest.approx(np.ones(49), abs=1e-6)
    assert (found[3] == 0).all()
    assert np.array_equal(np.concatenate([directions(row[None]) for row in x]), found)


def test_an_exact_hit_has_distance_zero_even_far_from_the_origin() -> None:
    mu = gauss(5, 16) + 1000 * np.arange(5, dtype=np.float32)[:, None]
    label = assign(mu.copy(), mu)
    distance = squares(mu, mu, label)
    assert label.tolist() == list(range(5))
    assert distance.tolist() == [0.0] * 5
