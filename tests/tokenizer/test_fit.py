"""Fitting over real shards, without Ray: the quality of K-Means beside scikit-learn's, and the training of levels."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import make_blobs

from lgsid_ray.artifacts.schemas import embeddings
from lgsid_ray.config.tokenizer import FeatureConfig, KMeansConfig, TokenizerConfig
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.features import COLUMNS
from lgsid_ray.tokenizer.fit import kmeans, train_levels
from lgsid_ray.tokenizer.kmeans import assign, statistics
from lgsid_ray.tokenizer.pool import Making, Pool, Shard, Slice, View

CUTS = (0, 1, 700, 1500)
PLAIN = View()


@dataclass
class LocalPool:
    """The pool's `map` over shards of this process."""

    shards: list[Shard]
    trained: int

    def map(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(shard, method)(*arguments) for shard in self.shards]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Shards take one thread; give the others back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def pool_of(rows: np.ndarray, folder: Path, train: np.ndarray | None = None) -> Pool:
    """Shards of unequal length whose embeddings are `rows`."""
    count = len(rows)
    train = np.ones(count, bool) if train is None else train
    catalogue, vectors = StageDir(f"{folder}/catalogue"), StageDir(f"{folder}/vectors")
    numbers, ids = pa.array(np.arange(count)), pa.array([f"i{row}" for row in range(count)])
    fixed: dict[str, Any] = {name: pa.array(["x"] * count) for name in COLUMNS[:-2]}
    fixed |= {name: pa.array(np.zeros(count)) for name in COLUMNS[-2:]}
    fixed |= {"item_index": numbers, "item_id": ids, "split": pa.array(np.where(train, "train", "held").tolist())}
    catalogue.write_table("items.parquet", pa.table(fixed))
    flat = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    schema = embeddings(rows.shape[1])
    vectors.write_table("embeddings.parquet", pa.table([numbers, ids, flat], schema.names).cast(schema))
    cuts = [*(cut for cut in CUTS if cut < count), count]
    shards = []
    for start, stop in pairwise(cuts):
        items, embedded = (
            [Slice(stage.parts(name)[0], start, stop - start)]
            for stage, name in ((catalogue, "items.parquet"), (vectors, "embeddings.parquet"))
        )
        shards.append(Shard(Making(catalogue, vectors, start, stop, items, embedded), FeatureConfig(), 0))
    return cast(Pool, LocalPool(shards, int(train.sum())))


def blobs(count: int = 2000, centres: int = 15, spread: float = 1.5, seed: int = 0) -> np.ndarray:
    return make_blobs(count, 6, centers=centres, cluster_std=spread, random_state=seed)[0].astype(np.float32)


def gauss(rows: int, dimension: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def levels_of(rows: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Rough codebooks: the first rows of each residual."""
    left, out = rows, []
    for size in sizes:
        out.append(left[:size].copy())
        left = left - out[-1][assign(left, out[-1])[0]]
    return out


@pytest.mark.parametrize("spread", [1.5, 3.0])
def test_lloyd_is_on_average_as_good_as_scikit_learns(spread: float, tmp_path: Path) -> None:
    rows = blobs(spread=spread)
    pool = pool_of(rows, tmp_path)
    mine = [statistics(rows, kmeans(pool, PLAIN, 15, KMeansConfig(), seed, "a")).inertia for seed in range(6)]
    theirs = [KMeans(15, n_init=1, random_state=seed).fit(rows).inertia_ for seed in range(6)]
    assert np.mean(mine) <= 1.03 * np.mean(theirs)
    assert min(mine) <= 1.03 * min(theirs)


def test_mini_batches_are_on_average_as_good_as_scikit_learns(tmp_path: Path) -> None:
    rows = blobs()
    pool = pool_of(rows, tmp_path)
    config = KMeansConfig(method="minibatch", batch_rows=300, iterations=40)
    mine = [statistics(rows, kmeans(pool, PLAIN, 15, config, seed, "a")).inertia for seed in range(6)]
    theirs = [
        MiniBatchKMeans(15, n_init=1, batch_size=300, max_iter=6, random_state=seed).fit(rows).inertia_
        for seed in range(6)
    ]
    assert np.mean(mine) <= 1.05 * np.mean(theirs)


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
def test_balanced_evens_the_sizes_of_the_clusters(method: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.exponential(1, (2000, 1)) * rng.standard_normal((2000, 4))).astype(np.float32)
    pool, spread = pool_of(rows, tmp_path), []
    for balanced in (False, True):
        config = KMeansConfig(method=method, batch_rows=1000, balanced=balanced, iterations=40)
        spread.append(statistics(rows, kmeans(pool, PLAIN, 12, config, 0, "a")).counts.std())
    assert spread[1] < 0.5 * spread[0]


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
@pytest.mark.parametrize("balanced", [False, True])
def test_fewer_distinct_rows_than_clusters_are_all_hit(method: str, balanced: bool, tmp_path: Path) -> None:
    distinct = gauss(4, 6, 0)
    rows = distinct[np.arange(900) % 4]
    config = KMeansConfig(method=method, balanced=balanced)
    centroids = kmeans(pool_of(rows, tmp_path), PLAIN, 7, config, 0, "a")
    assert centroids.shape == (7, 6)
    assert np.isfinite(centroids).all()
    if not balanced:
        assert statistics(distinct, centroids).inertia < 1e-9


def test_as_many_clusters_as_rows_gives_every_row_its_own(tmp_path: Path) -> None:
    rows = gauss(40, 6, 0)
    found = statistics(rows, kmeans(pool_of(rows, tmp_path), PLAIN, 40, KMeansConfig(), 0, "a"))
    assert (found.counts == 1).all()
    assert found.inertia < 1e-9


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
def test_batches_without_a_row_change_nothing(method: str, tmp_path: Path) -> None:
    rows = blobs(300)
    config = KMeansConfig(method=method, balanced=True, batch_rows=1, iterations=5)
    assert np.isfinite(kmeans(pool_of(rows, tmp_path), PLAIN, 5, config, 0, "a")).all()


def test_held_out_items_have_no_say(tmp_path: Path) -> None:
    rows = blobs(800)
    train = np.arange(800) % 3 > 0
    other = np.where(train[:, None], rows, 99).astype(np.float32)
    a, b = (
        kmeans(pool_of(x, tmp_path / name, train), PLAIN, 8, KMeansConfig(), 0, "a")
        for name, x in (("a", rows), ("b", other))
    )
    assert np.array_equal(a, b)


def test_every_level_of_residual_kmeans_lowers_the_error(tmp_path: Path) -> None:
    rows = blobs()
    pool, books, errors = pool_of(rows, tmp_path), [], [float(np.square(rows).sum())]
    for level in range(3):
        books.append(kmeans(pool, View(centres=tuple(books)), 10, KMeansConfig(), 0, f"level-{level}"))
        errors.append(
            sum(
                part.inertia
                for part in pool.map(
                    "statistics", View(centres=tuple(books)), np.zeros((1, 6), np.float32), None, 0, 1.0, ""
                )
            )
        )
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * errors[1]


def test_training_keeps_the_best_codebooks_and_lowers_the_error(tmp_path: Path) -> None:
    rows = gauss(1800, 6, 0)
    start = levels_of(rows, [12, 8])
    config = TokenizerConfig(epochs=25, regulariser=0, batch_rows=600)
    found, history = train_levels(pool_of(rows, tmp_path), PLAIN, [c.copy() for c in start], config, 0)

    def error(books: list[np.ndarray]) -> float:
        left = rows
        for centres in books:
            left = left - centres[assign(left, centres)[0]]
        return float(np.square(left, dtype=np.float64).sum(axis=1).mean())

    assert [row["epoch"] for row in history] == list(range(26))
    assert history[0]["recon"] == pytest.approx(error(start))
    assert min(row["loss"] for row in history) == pytest.approx(error(found))
    assert error(found) < 0.9 * error(start)


def test_a_step_too_long_never_returns_worse_codebooks(tmp_path: Path) -> None:
    rows = blobs(600)
    pool = pool_of(rows, tmp_path)
    start = [kmeans(pool, PLAIN, 15, KMeansConfig(), 0, "a")]
    config = TokenizerConfig(epochs=3, regulariser=0, learning_rate=5)
    found, history = train_levels(pool, PLAIN, start, config, 0)
    assert history[1]["loss"] > history[0]["loss"]
    assert np.array_equal(found[0], start[0])


def test_dead_codes_are_put_on_distinct_rows(tmp_path: Path) -> None:
    rows = np.repeat(gauss(6, 6, 0) * np.arange(1, 7, dtype=np.float32)[:, None], 20, axis=0)
    start = [np.concatenate([rows[:1], np.full((5, 6), 500, np.float32)])]
    config = TokenizerConfig(epochs=1, regulariser=0, learning_rate=1e-9)
    _, history = train_levels(pool_of(rows, tmp_path), PLAIN, start, config, 0)
    assert history[0]["usage_2"] == pytest.approx(1 / 6)
    assert history[1]["usage_2"] == 1
    assert history[1]["recon"] < 1e-6


def test_the_hard_histogram_of_equation_14_trains_as_no_regulariser_does(tmp_path: Path) -> None:
    rows = gauss(900, 6, 0)
    pool = pool_of(rows, tmp_path)
    recon = {}
    for usage, weight in (("hard", 0.5), ("soft", 0.0), ("soft", 0.5)):
        config = TokenizerConfig(epochs=4, regulariser=weight, usage=usage)
        _, history = train_levels(pool, PLAIN, levels_of(rows, [12, 8]), config, 0)
        recon[usage, weight] = [row["recon"] for row in history]
    assert recon["hard", 0.5] == recon["soft", 0.0]
    assert recon["soft", 0.5] != recon["soft", 0.0]


def test_the_soft_regulariser_evens_hard_usage(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.exponential(1, (1800, 1)) * rng.standard_normal((1800, 6))).astype(np.float32)
    pool = pool_of(rows, tmp_path)
    start = [kmeans(pool, PLAIN, 16, KMeansConfig(), 0, "a")]
    kl = []
    for weight in (0.0, 1.0):
        _, history = train_levels(pool, PLAIN, start, TokenizerConfig(epochs=25, regulariser=weight), 0)
        kl.append(history[-1]["hard_kl_2"])
    assert kl[1] < 0.6 * kl[0]


@pytest.mark.parametrize("regulariser", [0.0, 0.5])
def test_gradient_steps_without_a_row_change_nothing(regulariser: float, tmp_path: Path) -> None:
    rows = gauss(12, 6, 0)
    config = TokenizerConfig(epochs=2, batch_rows=1, regulariser=regulariser)
    found, history = train_levels(pool_of(rows, tmp_path), PLAIN, levels_of(rows, [3, 2]), config, 0)
    assert all(np.isfinite(centres).all() for centres in found)
    assert all(np.isfinite(value) for row in history for value in row.values())


def test_views_that_share_their_arrays_are_told_apart(tmp_path: Path) -> None:
    rows = blobs(300)
    (shard,) = cast(LocalPool, pool_of(rows[:1], tmp_path)).shards
    centres = gauss(3, 6, 0)
    expected = rows[:1] - centres[assign(rows[:1], centres)[0]]
    assert np.array_equal(shard.rows(View(centroids=centres)), rows[:1])
    assert np.array_equal(shard.rows(View(centres=(centres,))), expected)
