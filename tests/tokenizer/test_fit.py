"""Fitting over real shards, without Ray: the quality of K-Means beside scikit-learn's, and the training of levels."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import chisquare
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import make_blobs
from threadpoolctl import threadpool_limits

from lgsid_ray.artifacts import Embeddings, Items
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.artifacts.spans import Slice, Span
from lgsid_ray.config.tokenizer import (
    FeatureConfig,
    HgitConfig,
    KMeansConfig,
    RandomConfig,
    ResKMeansConfig,
    UnifiedSidConfig,
)
from lgsid_ray.errors import InputError, StorageError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.assign import assign, directions
from lgsid_ray.tokenizer.clustering import kmeans
from lgsid_ray.tokenizer.features import COLUMNS
from lgsid_ray.tokenizer.fit import residual_levels, train_levels
from lgsid_ray.tokenizer.kmeans import statistics
from lgsid_ray.tokenizer.levels import Level, on_embeddings, walk
from lgsid_ray.tokenizer.metrics import level_metrics
from lgsid_ray.tokenizer.registry import FITS
from lgsid_ray.tokenizer.shard import Shard, View, added
from lgsid_ray.tokenizer.tokenizer import Tokenizer

CUTS = (0, 1, 700, 1500)
PLAIN = View()


@dataclass
class LocalPool:
    """The pool's `map` over shards of this process; dies at the call after `lives`."""

    shards: list[Shard]
    trained: int
    out: StageDir | None = None
    lives: int = 1 << 30
    calls: int = 0

    def map(self, method: str, *arguments: Any) -> list[Any]:
        self.calls += 1
        if self.calls > self.lives:
            raise KeyboardInterrupt
        return [getattr(shard, method)(*arguments) for shard in self.shards]

    def sum(self, method: str, *arguments: Any) -> Any:
        return added(self.map(method, *arguments))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Shards take one thread; give the others back."""
    before = torch.get_num_threads()
    with threadpool_limits(1, "blas"):
        yield
    torch.set_num_threads(before)


def pool_of(
    rows: np.ndarray,
    folder: Path,
    train: np.ndarray | None = None,
    columns: dict[str, Any] | None = None,
    cuts: tuple[int, ...] = CUTS,
) -> LocalPool:
    """Shards of unequal length whose embeddings are `rows`; items all alike but for `columns`."""
    count = len(rows)
    train = np.ones(count, bool) if train is None else train
    items, embeddings = Items(StageDir(f"{folder}/catalogue")), Embeddings(StageDir(f"{folder}/vectors"))
    keys = {"item_index": np.arange(count), "item_id": [f"i{row}" for row in range(count)]}
    fixed: dict[str, Any] = {name: [0.0 if name in ("lat", "lon") else "x"] * count for name in COLUMNS}
    fixed |= {"split": np.where(train, "train", "held_place").tolist(), **(columns or {})}
    absent = {name: [None] * count for name in Items.schema.names if name not in {*keys, *fixed}}
    items.write(pa.table({**keys, **fixed, **absent}))
    embeddings.write(pa.table({**keys, "embedding": column(rows)}))
    shards = []
    for start, stop in pairwise([*(cut for cut in cuts if cut < count), count]):
        both = ([Slice(table.parts()[0], start, stop - start)] for table in (items, embeddings))
        shards.append(Shard(Span(items, embeddings, start, stop, *both)))
    return LocalPool(shards, int(train.sum()))


def blobs(count: int = 2000, centres: int = 15, spread: float = 1.5, seed: int = 0) -> np.ndarray:
    return make_blobs(count, 6, centers=centres, cluster_std=spread, random_state=seed)[0].astype(np.float32)


def gauss(rows: int, dimension: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def levels_of(rows: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Rough codebooks: the first rows of each residual."""
    left, out = rows, []
    for size in sizes:
        out.append(left[:size].copy())
        left = left - out[-1][assign(left, out[-1])]
    return out


@pytest.mark.parametrize("spread", [1.5, 3.0])
def test_lloyd_is_on_average_as_good_as_scikit_learns(spread: float, tmp_path: Path) -> None:
    rows = blobs(spread=spread)
    pool = pool_of(rows, tmp_path)
    mine = [statistics(rows, kmeans(pool, PLAIN, 15, KMeansConfig(), seed, "a").centroids).inertia for seed in range(6)]
    theirs = [KMeans(15, n_init=1, random_state=seed).fit(rows).inertia_ for seed in range(6)]
    assert np.mean(mine) <= 1.03 * np.mean(theirs)
    assert min(mine) <= 1.03 * min(theirs)


def test_mini_batches_are_on_average_as_good_as_scikit_learns(tmp_path: Path) -> None:
    rows = blobs()
    pool = pool_of(rows, tmp_path)
    config = KMeansConfig(method="minibatch", batch_rows=300, iterations=40)
    mine = [statistics(rows, kmeans(pool, PLAIN, 15, config, seed, "a").centroids).inertia for seed in range(6)]
    theirs = [
        MiniBatchKMeans(15, n_init=1, batch_size=300, max_iter=6, random_state=seed).fit(rows).inertia_
        for seed in range(6)
    ]
    assert np.mean(mine) <= 1.05 * np.mean(theirs)


def uneven(count: int, dimension: int = 24, groups: int = 40, seed: int = 0) -> np.ndarray:
    """Unit vectors in groups of very unequal sizes and widths."""
    rng = np.random.default_rng(seed)
    group = rng.choice(groups, count, p=rng.dirichlet(np.full(groups, 0.3)))
    width = rng.lognormal(-1.5, 1, groups)[group, None]
    rows = rng.standard_normal((groups, dimension))[group] + width * rng.standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def evenness(tokenizer: Tokenizer, tokens: np.ndarray) -> list[float]:
    """Perplexity of each level's usage, over its size."""
    sizes = tokenizer.sizes
    counts = [np.bincount(column, minlength=size) for column, size in zip(tokens.T, sizes, strict=True)]
    return [level_metrics(count)["perplexity"] / size for count, size in zip(counts, sizes, strict=True)]


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
def test_balanced_levels_are_even_after_encoding_at_a_small_cost(method: str, tmp_path: Path) -> None:
    rows, sizes, found = uneven(2400), [24, 16, 16], {}
    pool = pool_of(rows, tmp_path)
    for balanced in (False, True):
        config = {"method": method, "batch_rows": 1000, "iterations": 30, "balanced": balanced}
        tokenizer, _ = FITS["res_kmeans"](pool, ResKMeansConfig(sizes=sizes, kmeans=KMeansConfig(**config)), 0)
        tokenizer.save(tmp_path / str(balanced))
        tokenizer = Tokenizer.load(tmp_path / str(balanced))
        tokens = tokenizer.encode(None, rows)
        assert all(len(np.unique(column)) == size for column, size in zip(tokens.T, sizes, strict=True)) or not balanced
        error = np.square(rows - tokenizer.decode(tokens)).sum(axis=1).mean()
        found[balanced] = (min(evenness(tokenizer, tokens)), error)
    assert found[False][0] < 0.6
    assert found[True][0] > 0.9
    variance = np.square(rows - rows.mean(axis=0)).sum(axis=1).mean()
    assert found[True][1] - found[False][1] < 0.1 * variance


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_fit_that_is_killed_goes_on_to_the_same_result(method: str, balanced: bool, tmp_path: Path) -> None:
    settings = KMeansConfig(method=method, balanced=balanced, batch_rows=300, iterations=8, tolerance=0)
    config = ResKMeansConfig(sizes=[12, 9], kmeans=settings)
    whole = pool_of(uneven(800), tmp_path / "rows")
    tokenizer, _ = FITS["res_kmeans"](whole, config, 0)
    torn = replace(whole, out=StageDir(f"{tmp_path}/out"), lives=whole.calls // 4, calls=0)
    kills = 0
    while True:
        try:
            found, _ = FITS["res_kmeans"](torn, config, 0)
            break
        except KeyboardInterrupt:
            kills += 1
            torn = replace(torn, calls=0, lives=whole.calls // 4 + 10 * kills)
    assert kills >= 2
    assert torn.calls < 0.8 * whole.calls, "the steps of earlier calls are not taken again"
    for a, b in zip(found.levels, tokenizer.levels, strict=True):
        assert np.array_equal(a.codebook, b.codebook)
        assert np.array_equal(a.price, b.price)
    with torn.out.write("work/kmeans/level-2.safetensors") as file:  # type: ignore[union-attr]
        file.write(b"torn")
    with pytest.raises(StorageError, match=r"level-2\.safetensors is corrupt"):
        FITS["res_kmeans"](replace(torn, lives=1 << 30), config, 0)


@pytest.mark.parametrize("kind", ["res_kmeans", "hgit"])
def test_even_levels_do_not_lose_what_those_before_have_found_where_few_rows_lie_far_out(
    kind: str, tmp_path: Path
) -> None:
    rows = 0.05 * gauss(3000, 16, 0)
    rows[:60] = 4 * gauss(60, 16, 1)
    rows[60:] += gauss(12, 16, 2)[np.arange(2940) % 12]
    pool = pool_of(rows, tmp_path, columns=places(3000))
    config = (HgitConfig if kind == "hgit" else ResKMeansConfig)(sizes=[12, 16, 8], kmeans=KMeansConfig(balanced=True))
    tokenizer, _ = FITS[kind](pool, config, 0)
    items = pa.table({**{name: ["x"] * 3000 for name in COLUMNS}, **places(3000)})
    tokens = tokenizer.encode(items if kind == "hgit" else None, rows)
    left = rows.copy()
    errors = []
    for level, token in zip(tokenizer.levels, tokens.T, strict=True):
        left = left - level.centres[token]
        errors.append(np.square(left).sum(axis=1).mean())
    assert errors[2] < errors[1] < errors[0]
    assert min(evenness(tokenizer, tokens)) > 0.6


def test_rows_that_training_never_saw_fall_evenly_too(tmp_path: Path) -> None:
    rows = uneven(4000)
    config = ResKMeansConfig(sizes=[16, 12], kmeans=KMeansConfig(balanced=True))
    tokenizer, _ = FITS["res_kmeans"](pool_of(rows[:2000], tmp_path), config, 0)
    assert min(evenness(tokenizer, tokenizer.encode(None, rows[2000:]))) > 0.85


def test_prices_are_the_same_however_rows_are_cut_into_shards(tmp_path: Path) -> None:
    rows, found = uneven(1200), []
    for cuts in ((0, 1, 700), (0, 500)):
        pool = pool_of(rows, tmp_path / str(len(cuts)), cuts=cuts)
        found.append(kmeans(pool, PLAIN, 12, KMeansConfig(balanced=True), 0, "a"))
    # Sums are added shard by shard, so another cut rounds another way, and that alone.
    assert found[0].price == pytest.approx(found[1].price, abs=1e-4)
    assert found[0].centroids == pytest.approx(found[1].centroids, abs=1e-4)


@pytest.mark.parametrize("steps", [0, 30])
def test_hgits_learnt_levels_are_priced_once_they_are_learnt(steps: int, tmp_path: Path) -> None:
    rows, sizes = uneven(1500), [12, 12, 10]
    pool = pool_of(rows, tmp_path, columns=places(1500))
    config = HgitConfig(sizes=sizes, steps=steps, kmeans=KMeansConfig(balanced=True))
    tokenizer, history = FITS["hgit"](pool, config, 0)
    items = pa.table({**{name: ["x"] * 1500 for name in COLUMNS}, **places(1500)})
    assert min(evenness(tokenizer, tokenizer.encode(items, rows))) > 0.9
    # Eq 16 itself knows no prices: the history is that of the codebooks alone.
    assert min(row["loss"] for row in history) <= history[0]["loss"]


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
@pytest.mark.parametrize("balanced", [False, True])
def test_fewer_distinct_rows_than_clusters_are_all_hit(method: str, balanced: bool, tmp_path: Path) -> None:
    distinct = gauss(4, 6, 0)
    rows = distinct[np.arange(900) % 4]
    config = KMeansConfig(method=method, balanced=balanced)
    centroids = kmeans(pool_of(rows, tmp_path), PLAIN, 7, config, 0, "a").centroids
    assert centroids.shape == (7, 6)
    assert np.isfinite(centroids).all()
    if not balanced:
        assert statistics(distinct, centroids).inertia < 1e-9


def test_as_many_clusters_as_rows_gives_every_row_its_own(tmp_path: Path) -> None:
    rows = gauss(40, 6, 0)
    found = statistics(rows, kmeans(pool_of(rows, tmp_path), PLAIN, 40, KMeansConfig(), 0, "a").centroids)
    assert (found.counts == 1).all()
    assert found.inertia < 1e-9


@pytest.mark.parametrize("method", ["lloyd", "minibatch"])
def test_batches_without_a_row_change_nothing(method: str, tmp_path: Path) -> None:
    rows = blobs(300)
    config = KMeansConfig(method=method, balanced=True, batch_rows=1, iterations=5)
    assert np.isfinite(kmeans(pool_of(rows, tmp_path), PLAIN, 5, config, 0, "a").centroids).all()


def test_held_out_items_have_no_say(tmp_path: Path) -> None:
    rows = blobs(800)
    train = np.arange(800) % 3 > 0
    other = np.where(train[:, None], rows, 99).astype(np.float32)
    a, b = (
        kmeans(pool_of(x, tmp_path / name, train), PLAIN, 8, KMeansConfig(), 0, "a").centroids
        for name, x in (("a", rows), ("b", other))
    )
    assert np.array_equal(a, b)


def test_every_level_of_residual_kmeans_lowers_the_error(tmp_path: Path) -> None:
    rows = blobs()
    pool, books, errors = pool_of(rows, tmp_path), [], [float(np.square(rows).sum())]
    for level in range(3):
        here = View(levels=tuple(books))
        books.append(on_embeddings(kmeans(pool, here, 10, KMeansConfig(), 0, f"level-{level}").centroids))
        errors.append(
            sum(
                part.inertia
                for part in pool.map(
                    "statistics", View(levels=tuple(books)), np.zeros((1, 6), np.float32), None, 0.0, 1.0, ""
                )
            )
        )
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * errors[1]


def test_training_keeps_the_best_codebooks_and_lowers_the_error(tmp_path: Path) -> None:
    rows = gauss(1800, 6, 0)
    start = levels_of(rows, [12, 8])
    config = HgitConfig(steps=130, regulariser=0, batch_rows=600)
    found, history = train_levels(pool_of(rows, tmp_path), PLAIN, [c.copy() for c in start], config, 0)

    def errors(books: list[np.ndarray]) -> np.ndarray:
        steps = walk([on_embeddings(centres) for centres in books], rows)
        return np.array([np.square(left, dtype=np.float64).sum(axis=1).mean() for _, left in steps])

    assert [row["step"] for row in history] == [0, 25, 50, 75, 100, 125, 130]
    assert [history[0]["recon_2"], history[0]["recon_3"]] == pytest.approx(errors(start))
    assert min(row["loss"] for row in history) == pytest.approx(errors(found).sum())
    # No prefix is given up for the last level.
    assert (errors(found) < 0.97 * errors(start)).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_learnt_levels_are_as_good_as_those_of_faiss_and_use_their_codes_evenly(tmp_path: Path, seed: int) -> None:
    rows = gauss(4000, 16, seed) * np.linspace(2, 0.2, 16, dtype=np.float32)
    rows[:, :3] += gauss(12, 3, seed + 9)[np.arange(4000) % 12] * 3
    peer = faiss.ResidualQuantizer(16, 2, 4)
    peer.max_beam_size = 1
    peer.train(rows)
    theirs = list(faiss.vector_to_array(peer.codebooks).reshape(2, 16, 16))
    pool = pool_of(rows, tmp_path)
    start = residual_levels(pool, [16, 16], KMeansConfig(), seed, PLAIN)
    found, history = train_levels(pool, PLAIN, [level.centres for level in start], HgitConfig(), seed)
    errors = []
    for books in (found, theirs):
        steps = walk([on_embeddings(centres) for centres in books], rows)
        errors.append([np.square(left, dtype=np.float64).sum() for _, left in steps])
    assert (np.array(errors[0]) <= 1.03 * np.array(errors[1])).all()
    best = min(history, key=lambda row: row["loss"])
    assert min(best["perplexity_2"], best["perplexity_3"]) > 0.9 * 16


def test_a_step_too_long_never_returns_worse_codebooks(tmp_path: Path) -> None:
    rows = blobs(600)
    pool = pool_of(rows, tmp_path)
    start = [kmeans(pool, PLAIN, 15, KMeansConfig(), 0, "a").centroids]
    config = HgitConfig(steps=3, regulariser=0, learning_rate=5)
    found, history = train_levels(pool, PLAIN, start, config, 0)
    assert history[1]["loss"] > history[0]["loss"]
    assert np.array_equal(found[0], start[0])


def test_a_few_rows_far_out_do_not_throw_the_others_codes_away(tmp_path: Path) -> None:
    """One row in twenty lies in one of fifteen groups ten times as far out: K-Means gives them most of its codes, and
    steps as long as those codes are far leave one code in use (perplexity 1.4)."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1500, 16)).astype(np.float32)
    groups = 10 * rng.standard_normal((15, 16)).astype(np.float32)
    rows[::20] += groups[rng.integers(0, 15, 75)]
    start = levels_of(rows, [24, 16])
    _, history = train_levels(pool_of(rows, tmp_path), PLAIN, start, HgitConfig(), 0)
    best = min(history, key=lambda row: row["loss"])
    assert history[0]["perplexity_2"] < 0.7 * 24
    assert best["perplexity_2"] > 0.8 * 24
    assert best["recon_3"] < history[0]["recon_3"]


def test_dead_codes_are_put_on_distinct_rows(tmp_path: Path) -> None:
    rows = np.repeat(gauss(6, 6, 0) * np.arange(1, 7, dtype=np.float32)[:, None], 20, axis=0)
    start = [np.concatenate([rows[:1], np.full((5, 6), 500, np.float32)])]
    config = HgitConfig(steps=1, regulariser=0, learning_rate=1e-9)
    _, history = train_levels(pool_of(rows, tmp_path), PLAIN, start, config, 0)
    assert history[0]["usage_2"] == pytest.approx(1 / 6)
    assert history[1]["usage_2"] == 1
    assert history[1]["recon_2"] < 1e-6


def test_the_hard_histogram_of_equation_14_trains_as_no_regulariser_does(tmp_path: Path) -> None:
    rows = gauss(900, 6, 0)
    pool = pool_of(rows, tmp_path)
    recon = {}
    for usage, weight in (("hard", 0.5), ("soft", 0.0), ("soft", 0.5)):
        config = HgitConfig(steps=4, regulariser=weight, usage=usage)
        _, history = train_levels(pool, PLAIN, levels_of(rows, [12, 8]), config, 0)
        recon[usage, weight] = [row["recon_3"] for row in history]
    assert recon["hard", 0.5] == recon["soft", 0.0]
    assert recon["soft", 0.5] != recon["soft", 0.0]


def test_the_soft_regulariser_evens_hard_usage(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.exponential(1, (1800, 1)) * rng.standard_normal((1800, 6))).astype(np.float32)
    pool = pool_of(rows, tmp_path)
    start = [kmeans(pool, PLAIN, 16, KMeansConfig(), 0, "a").centroids]
    kl = []
    for weight in (0.0, 1.0):
        _, history = train_levels(pool, PLAIN, start, HgitConfig(steps=100, regulariser=weight), 0)
        kl.append(history[-1]["hard_kl_2"])
    assert kl[1] < 0.6 * kl[0]


@pytest.mark.parametrize("regulariser", [0.0, 0.5])
def test_gradient_steps_without_a_row_change_nothing(regulariser: float, tmp_path: Path) -> None:
    rows = gauss(12, 6, 0)
    config = HgitConfig(steps=2, batch_rows=1, regulariser=regulariser)
    found, history = train_levels(pool_of(rows, tmp_path), PLAIN, levels_of(rows, [3, 2]), config, 0)
    assert all(np.isfinite(centres).all() for centres in found)
    assert all(np.isfinite(value) for row in history for value in row.values())


def test_views_that_share_their_arrays_are_told_apart(tmp_path: Path) -> None:
    rows = blobs(300)
    (shard,) = pool_of(rows[:1], tmp_path).shards
    centres = gauss(3, 6, 0)
    label = assign(rows[:1], centres)
    assert np.array_equal(shard.rows(View()), rows[:1])
    assert np.array_equal(shard.rows(View(levels=(on_embeddings(centres),))), rows[:1] - centres[label])
    other = Level("embeddings", centres, centres + 1)
    assert np.array_equal(shard.rows(View(levels=(other,))), rows[:1] - (centres + 1)[label])


def test_a_shard_holds_its_vectors_once_and_comes_back_to_any_view(tmp_path: Path) -> None:
    rows = blobs(300)
    (shard,) = pool_of(rows, tmp_path, cuts=(0, 300)).shards
    one, two = (on_embeddings(gauss(5, 6, seed)) for seed in (0, 1))
    first, second = (left for _, left in walk([one, two], rows))
    wanted = [
        (View(), rows),
        (View(levels=(one,)), first),
        (View(levels=(one,), aside=(two,)), second),
        (View(levels=(one, two)), second),
        (View(levels=(one, two), metric="cosine"), directions(second)),
        (View(metric="cosine"), directions(rows)),
        (View(levels=(two,)), rows - two.centres[assign(rows, two.centres)]),
    ]
    for order in (wanted, wanted[::-1], wanted[::2] + wanted[1::2]):
        for view, vectors in order:
            assert np.array_equal(shard.rows(view), vectors)
    held = shard.rows(View())
    assert np.shares_memory(held, shard.rows(View(levels=(one,))))
    assert not np.shares_memory(held, shard.rows(View(levels=(one,), aside=(two,))))
    assert np.shares_memory(held, shard.rows(View(levels=(one, two), metric="cosine")))


def places(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    town = rng.integers(0, 8, count)
    return {"lat": 40 + town + 0.01 * rng.standard_normal(count), "lon": np.where(town % 2, 8.0, 9.0)}


NOWHERE = {name: [None] * 1200 for name in ("lat", "lon", "province", "city", "district")}


def test_hgits_level_1_goes_by_features_and_its_centres_are_its_members_means(tmp_path: Path) -> None:
    rows, columns = blobs(1200), places(1200)
    tokenizer, history = FITS["hgit"](pool_of(rows, tmp_path, columns=columns), HgitConfig(sizes=[8, 6, 5]), 0)
    spaces = [(level.space, level.size) for level in tokenizer.levels]
    assert spaces == [("features", 8), ("embeddings", 6), ("embeddings", 5)]
    assert [row["step"] for row in history] == list(range(0, 301, 25))
    first = tokenizer.encode(pa.table({**{name: ["x"] * 1200 for name in COLUMNS}, **columns}), rows)[:, 0]
    for code in range(8):
        centre = tokenizer.levels[0].centres[code]
        np.testing.assert_allclose(centre, rows[first == code].mean(axis=0), rtol=1e-3, atol=1e-4)
        assert len(np.unique(np.round(columns["lat"][first == code]))) == 1


def test_without_any_place_hgits_level_1_is_content_alone(tmp_path: Path) -> None:
    rows = blobs(1200)
    tokenizer, _ = FITS["hgit"](pool_of(rows, tmp_path, columns=NOWHERE), HgitConfig(sizes=[15, 6]), 0)
    assert tokenizer.transform is None
    assert tokenizer.levels[0].space == "embeddings"
    plain, _ = FITS["res_kmeans"](pool_of(rows, tmp_path / "plain", columns=NOWHERE), ResKMeansConfig(sizes=[15, 6]), 0)
    assert np.array_equal(tokenizer.levels[0].codebook, plain.levels[0].codebook)
    assert tokenizer.encode(None, rows).shape == (1200, 2)


def test_a_users_own_hierarchy_without_coordinates_makes_level_1(tmp_path: Path) -> None:
    rows = blobs(1200)
    genre = [f"genre {row % 5}" for row in range(1200)]
    # No item has all three names: a genre is a path of one.
    columns = NOWHERE | {"province": genre}
    tokenizer, _ = FITS["hgit"](pool_of(rows, tmp_path, columns=columns), HgitConfig(sizes=[5, 6]), 0)
    first = tokenizer.encode(pa.table({**{name: ["x"] * 1200 for name in COLUMNS}, **columns}), rows)[:, 0]
    assert len(set(zip(first.tolist(), genre, strict=True))) == len(set(first.tolist())) == 5


def test_res_kmeans_is_residual_kmeans(tmp_path: Path) -> None:
    rows = blobs()
    tokenizer, history = FITS["res_kmeans"](pool_of(rows, tmp_path), ResKMeansConfig(sizes=[10, 8, 6]), 0)
    assert history == []
    assert tokenizer.kind == "res_kmeans"
    left = rows
    for level, (label, after) in zip(tokenizer.levels, walk(tokenizer.levels, rows), strict=True):
        # Lloyd has settled, or nearly: centres are their members' means.
        means = np.stack([left[label == code].mean(axis=0) for code in range(level.size)])
        np.testing.assert_allclose(level.centres, means, atol=0.15)
        assert np.square(after).sum() < np.square(left).sum()
        left = after


def test_spherical_kmeans_is_the_plain_loop(tmp_path: Path) -> None:
    rows = blobs(1200) * np.linspace(0.1, 5, 1200, dtype=np.float32)[:, None]
    view, config = View(metric="cosine"), KMeansConfig(iterations=6, tolerance=0)
    pool = pool_of(rows, tmp_path)
    first = kmeans(pool, view, 9, KMeansConfig(iterations=1), 0, "a").centroids.astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float64)
    for _ in range(5):
        label = (unit @ first.T).argmax(axis=1)
        sums = np.stack([unit[label == code].sum(axis=0) for code in range(9)])
        first = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    found = kmeans(pool, view, 9, config, 0, "a").centroids
    assert found == pytest.approx(first, abs=1e-6)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(9), abs=1e-6)


@pytest.mark.parametrize("cosine_levels", [1, 2])
@pytest.mark.parametrize("balanced", [False, True])
def test_unified_sid_goes_by_angle_and_then_by_distance(cosine_levels: int, balanced: bool, tmp_path: Path) -> None:
    rows = uneven(1500)
    config = UnifiedSidConfig(sizes=[12, 8, 6], cosine_levels=cosine_levels, kmeans=KMeansConfig(balanced=balanced))
    tokenizer, history = FITS["unified_sid"](pool_of(rows, tmp_path), config, 0)
    tokenizer.save(tmp_path)
    tokens = Tokenizer.load(tmp_path).encode(None, rows)
    left = rows.astype(np.float64)
    for number, level in enumerate(tokenizer.levels):
        by_angle = number < cosine_levels
        assert level.metric == ("cosine" if by_angle else "euclidean")
        if by_angle:
            assert np.linalg.norm(level.codebook, axis=1) == pytest.approx(np.ones(level.size), abs=1e-6)
            means = np.stack([left[tokens[:, number] == code].mean(axis=0) for code in range(level.size)])
            assert level.centres == pytest.approx(means, abs=1e-6)
        here = left / np.linalg.norm(left, axis=1, keepdims=True) if by_angle else left
        price = 0 if level.price is None else level.price.astype(float)
        cost = np.square(here[:, None] - level.codebook).sum(axis=2) + price
        assert cost[np.arange(1500), tokens[:, number]] == pytest.approx(cost.min(axis=1), abs=1e-6)
        left = left - level.centres[tokens[:, number]]
    assert history == []
    assert not balanced or min(evenness(tokenizer, tokens)) > 0.9


def test_random_ids_are_even_and_say_nothing(tmp_path: Path) -> None:
    rows, items = blobs(3000), pa.table({"item_id": [f"i{row}" for row in range(3000)]})
    tokenizer, history = FITS["random"](pool_of(rows, tmp_path), RandomConfig(sizes=[10, 8]), 0)
    tokens = tokenizer.encode(items, rows)
    assert history == []
    counts = np.zeros((10, 8))
    np.add.at(counts, tuple(tokens.T), 1)
    assert chisquare(counts.ravel()).pvalue > 1e-3
    turned = np.random.default_rng(0).permutation(3000)
    assert np.array_equal(tokenizer.encode(items.take(pa.array(turned)), rows), tokens[turned]), "by item_id alone"
    np.testing.assert_allclose(tokenizer.decode(tokens), np.tile(rows.mean(axis=0), (3000, 1)), atol=1e-5)
    other, _ = FITS["random"](pool_of(rows, tmp_path / "other"), RandomConfig(sizes=[10, 8]), 1)
    assert (other.encode(items, rows) != tokens).any()
    with pytest.raises(InputError, match="item_id is missing"):
        tokenizer.encode(items.rename_columns(["id"]), rows)


KNOBS: dict[str, list[Any]] = {
    "sizes": [[16, 12]],
    "features": [
        {"admin": 3},
        {"geo": 0},
        {"category": 3},
        {"brand": 3},
        {"position": "geohash", "geohash_precision": 2},
        {"ids": "scaled"},
        {"projection": 3},
    ],
    "kmeans": [
        {"method": "minibatch", "batch_rows": 300},
        {"iterations": 1},
        {"tolerance": 0.5},
        {"balanced": True},
    ],
    "first_level": ["embeddings"],
    "regulariser": [1.0],
    "usage": ["hard"],
    "temperature": [5],
    "steps": [0],
    "batch_rows": [500],
    "learning_rate": [0.1],
}


def test_every_knob_of_fitting_changes_the_tokenizer(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {name: [f"{name} {i}" for i in rng.integers(0, 9, 900)] for name in COLUMNS[:-2]} | places(900)
    pool = pool_of(blobs(900, spread=3.0), tmp_path, columns=columns)

    def fitted(**settings: Any) -> bytes:
        settings["kmeans"] = {"balanced": False} | settings.get("kmeans", {})  # balanced, no tolerance ends it
        config = HgitConfig.model_validate({"sizes": [16, 12, 8], "steps": 100, "regulariser": 0.3} | settings)
        tokenizer, _ = FITS["hgit"](pool, config, 0)
        return b"".join(level.codebook.tobytes() for level in tokenizer.levels)

    plain = fitted()
    assert plain == fitted()
    variants = [{name: value} for name, values in KNOBS.items() for value in values]
    idle = [variant for variant in variants if fitted(**variant) == plain]
    assert idle == []


def test_the_knobs_are_all_there_are() -> None:
    of_the_stage = {"kind", "name", "bits", "embeddings", "beam", "min_usage", "last_level", "disambiguate"}
    assert set(HgitConfig.model_fields) == {*KNOBS, *of_the_stage}
    for name, section, resources in (("features", FeatureConfig, set()), ("kmeans", KMeansConfig, {"actors"})):
        assert {key for value in KNOBS[name] for key in value} == set(section.model_fields) - resources
