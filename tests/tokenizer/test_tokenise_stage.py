"""The tokenise stage on real actors: every item a SID, the same on any pool, after a death and after a kill."""

import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from lgsid_ray.artifacts.schemas import ITEMS, embeddings
from lgsid_ray.config import RunConfig, load
from lgsid_ray.errors import ConfigError, GateError, StorageError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer import pool as pool_module
from lgsid_ray.tokenizer.codec import Codebooks, sid_text
from lgsid_ray.tokenizer.fit import kmeans
from lgsid_ray.tokenizer.pool import Pool, View
from lgsid_ray.tokenizer.stage import tokenise

pytestmark = pytest.mark.usefixtures("ray_local")


def items(count: int, *, spread: float = 1.0) -> pa.Table:
    rng = np.random.default_rng(0)
    town = rng.integers(0, 12, count)
    columns = {
        "item_index": np.arange(count),
        "item_id": [f"i{row:05d}" for row in range(count)],
        "name": [f"place {row}" for row in range(count)],
        "brand": [f"b{row % 7}" if row % 3 else None for row in range(count)],
        "category_1": [f"c{row % 4}" for row in range(count)],
        "category_2": [f"d{row % 9}" for row in range(count)],
        "price": [None] * count,
        "province": [f"p{t // 6}" for t in town],
        "city": [f"q{t // 3}" for t in town],
        "district": [f"r{t}" for t in town],
        "lat": 40 + spread * (town // 3 + 0.01 * rng.standard_normal(count)),
        "lon": -74 + spread * (town % 3 + 0.01 * rng.standard_normal(count)),
        "province_filled": [False] * count,
        "city_filled": [False] * count,
        "district_filled": [False] * count,
        "split": ["train"] * count,
    }
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in ITEMS}, schema=ITEMS)


def vectors(count: int, dimension: int = 8) -> np.ndarray:
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((20, dimension))
    rows = centres[rng.integers(0, 20, count)] + 0.4 * rng.standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def world(folder: Path, table: pa.Table, rows: np.ndarray) -> dict[str, StageDir]:
    """Finished stages whose parts do not coincide."""
    catalogue, embedded = StageDir(f"{folder}/catalogue"), StageDir(f"{folder}/embed_aligned")
    for part, start in enumerate(range(0, len(table), 700)):
        catalogue.write_table(f"items/part-{part:05d}.parquet", table.slice(start, 700))
    for part, start in enumerate(range(0, len(table), 450)):
        piece = rows[start : start + 450]
        columns = [
            pa.array(np.arange(start, start + len(piece))),
            table.column("item_id").slice(start, len(piece)).combine_chunks(),
            pa.FixedSizeListArray.from_arrays(pa.array(piece.ravel()), rows.shape[1]),
        ]
        schema = embeddings(rows.shape[1])
        embedded.write_table(f"embeddings/part-{part:05d}.parquet", pa.table(columns, schema.names).cast(schema))
    return {"catalogue": catalogue, "embed_aligned": embedded}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StageDir]:
    return world(tmp_path_factory.mktemp("world"), items(2000), vectors(2000))


def config(*overrides: str) -> RunConfig:
    return load(None, ["tokenizer.sizes=[16, 12, 8]", "tokenizer.epochs=4", *overrides])


def run(inputs: dict[str, StageDir], folder: Path, *overrides: str) -> tuple[StageDir, dict[str, object]]:
    out = StageDir(f"{folder}/{uuid.uuid4().hex}").make()
    return out, tokenise(config(*overrides), inputs, out)


@pytest.fixture(scope="module")
def plain(inputs: dict[str, StageDir], tmp_path_factory: pytest.TempPathFactory) -> StageDir:
    return run(inputs, tmp_path_factory.mktemp("plain"), "tokenizer.regulariser=0.3")[0]


def test_every_item_has_a_sid_and_the_inverse_is_the_inverse(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    out, facts = run(inputs, tmp_path)
    sids = out.read_table("sids.parquet").to_pylist()
    assert [row["item_index"] for row in sids] == list(range(2000))
    assert [row["item_id"] for row in sids] == [f"i{row:05d}" for row in range(2000)]
    assert len({row["sid"] for row in sids}) == 2000
    assert all(row["sid"] == sid_text(row["tokens"], row["collision"]) for row in sids)
    expected: dict[tuple[int, ...], list[str]] = {}
    for row in sids:
        assert len(expected.setdefault(tuple(row["tokens"]), [])) == row["collision"]
        expected[tuple(row["tokens"])].append(row["item_id"])
    inverse = out.read_table("inverse.parquet").to_pylist()
    assert {tuple(row["tokens"]): row["item_id"] for row in inverse} == expected
    assert [row["tokens"] for row in inverse] == sorted(row["tokens"] for row in inverse)
    assert facts["distinct_sids"] == len(expected)
    metrics = out.read_json("metrics.json")
    first = np.bincount([row["tokens"][0] for row in sids], minlength=16) / 2000
    entropy = -sum(p * np.log(p) for p in first if p)
    assert metrics["levels"][0]["perplexity"] == pytest.approx(np.exp(entropy))


def test_reconstruction_error_is_that_of_the_saved_codebooks(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    out, facts = run(inputs, tmp_path)
    tokens = np.array(out.read_table("sids.parquet").column("tokens").to_pylist())
    error = np.square(vectors(2000) - Codebooks.load(out).decode(tokens)).sum(axis=1).mean()
    assert facts["reconstruction_error"] == pytest.approx(error, rel=1e-5)
    books = Codebooks.load(out)
    members = tokens[:, 0] == tokens[0, 0]
    assert np.allclose(books.centres_[0][tokens[0, 0]], vectors(2000)[members].mean(axis=0), atol=1e-5)


def test_codebooks_see_training_items_only_and_all_items_get_a_sid(tmp_path: Path) -> None:
    held = np.arange(600) % 5 == 0
    table = items(600)
    place = table.column_names.index("split")
    table = table.set_column(place, "split", pa.array(np.where(held, "held_place", "train").tolist()))
    rows = vectors(600)
    one, _ = run(world(tmp_path / "one", table, rows), tmp_path)
    rows[held] = rows[held][::-1]
    two, _ = run(world(tmp_path / "two", table, rows), tmp_path)
    for before, after in zip(Codebooks.load(one).centres_, Codebooks.load(two).centres_, strict=True):
        np.testing.assert_array_equal(before, after)
    tokens = [np.array(out.read_table("sids.parquet").column("tokens").to_pylist()) for out in (one, two)]
    assert len(tokens[0]) == 600
    assert (tokens[0][~held] == tokens[1][~held]).all()
    assert (tokens[0][held] != tokens[1][held]).any()


def test_same_seed_same_bytes_other_seed_other_sids(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    tables = [run(inputs, tmp_path, seed)[0].read_table("sids.parquet") for seed in ("seed=0", "seed=0", "seed=1")]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_the_size_of_the_pool_changes_nothing(
    inputs: dict[str, StageDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "SHARD_ROWS", 300)
    tables = [
        run(inputs, tmp_path, f"tokenizer.kmeans.actors={actors}")[0].read_table("sids.parquet") for actors in (1, 2)
    ]
    assert tables[0].equals(tables[1])


def test_an_actor_that_dies_is_replaced(inputs: dict[str, StageDir], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "SHARD_ROWS", 300)
    settings = config().tokenizer
    found = []
    for kill in (False, True):
        pool = Pool(inputs["catalogue"], inputs["embed_aligned"], settings.features, 0, 2)
        view = View(True, np.sum(pool.map("moments")))
        if kill:
            ray.kill(pool._actors[1])
        found.append(kmeans(pool, view, 10, settings.kmeans, 0, "level-1"))
        pool.close()
    assert np.array_equal(found[0], found[1])


def test_interrupted_call_takes_up_its_codebooks(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    whole, _ = run(inputs, tmp_path)
    torn = StageDir(f"{tmp_path}/torn").make()
    for name in ("codebooks.safetensors", "fit-history.json"):
        with torn.write(name) as file:
            file.write(whole.read(name))
    torn.write_table("sids.parquet/part-00000.parquet", pa.table({"half": [1]}))
    tokenise(config(), inputs, torn)
    assert torn.read_table("sids.parquet").equals(whole.read_table("sids.parquet"))
    with torn.write("codebooks.safetensors") as file:
        file.write(b"torn")
    with pytest.raises(StorageError, match=r"codebooks\.safetensors is corrupt.*delete"):
        tokenise(config(), inputs, torn)


def test_training_never_ends_worse_and_the_regulariser_evens_usage(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    out, _ = run(inputs, tmp_path, "tokenizer.epochs=8")
    losses = [row["loss"] for row in out.read_json("history.json")]
    assert min(losses) < losses[0]
    even, _ = run(inputs, tmp_path, "tokenizer.epochs=8", "tokenizer.regulariser=1.0")
    free, _ = run(inputs, tmp_path, "tokenizer.epochs=8", "tokenizer.regulariser=0")
    kl = [sum(level["kl"] for level in o.read_json("metrics.json")["levels"][1:]) for o in (even, free)]
    assert kl[0] < kl[1]


@pytest.mark.parametrize(
    "override",
    [
        "tokenizer.method=res_kmeans",
        "tokenizer.features.admin=3",
        "tokenizer.features.geo=0",
        "tokenizer.features.category=3",
        "tokenizer.features.brand=3",
        "tokenizer.features.ids=scaled",
        "tokenizer.features.projection=3",
        "tokenizer.kmeans.method=minibatch",
        "tokenizer.kmeans.iterations=1",
        "tokenizer.kmeans.balanced=true",
        "tokenizer.kmeans.tolerance=0.5",
        "tokenizer.regulariser=1.0",
        "tokenizer.usage=hard",
        "tokenizer.temperature=5",
        "tokenizer.batch_rows=500",
        "tokenizer.learning_rate=0.1",
        "tokenizer.epochs=0",
        "tokenizer.disambiguate=false",
        "tokenizer.sizes=[16, 12]",
    ],
)
def test_every_knob_does_something(inputs: dict[str, StageDir], plain: StageDir, tmp_path: Path, override: str) -> None:
    other = run(inputs, tmp_path, "tokenizer.regulariser=0.3", "tokenizer.kmeans.actors=1", override)[0]
    assert plain.read("codebooks.safetensors") != other.read("codebooks.safetensors") or not plain.read_table(
        "sids.parquet"
    ).equals(other.read_table("sids.parquet"))


def test_more_clusters_than_items(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.sizes.*5000 clusters for 2000 training items"):
        run(inputs, tmp_path, "tokenizer.sizes=[5000, 4]")


def test_all_items_alike_is_refused_as_collapse(tmp_path: Path) -> None:
    table = items(300, spread=0.0)
    for name in ("province", "city", "district", "category_1", "category_2", "brand"):
        table = table.set_column(table.column_names.index(name), name, pa.array(["x"] * 300))
    alike = world(tmp_path / "w", table, np.tile(vectors(1), (300, 1)))
    with pytest.raises(GateError, match="collapsed"):
        run(alike, tmp_path, "tokenizer.min_usage=0.2")
    out, facts = run(alike, tmp_path, "tokenizer.min_usage=0")
    assert facts["distinct_sids"] == 1
    assert len(set(out.read_table("sids.parquet").column("sid").to_pylist())) == 300


def test_one_item(tmp_path: Path) -> None:
    out, _ = run(world(tmp_path / "w", items(1), vectors(1)), tmp_path, "tokenizer.sizes=[1, 1]")
    assert out.read_table("sids.parquet").column("sid").to_pylist() == ["<a_0><b_0>"]
