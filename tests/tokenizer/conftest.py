"""A small world for the tokenise stage, and its work done in this process, as its actors would do it."""

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lgsid_ray.artifacts import Embeddings, Items, Sids
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.artifacts.spans import Span
from lgsid_ray.config import RunConfig, load
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer import encoding, stage
from lgsid_ray.tokenizer.shard import Shard, added
from lgsid_ray.tokenizer.stage import tokenise
from lgsid_ray.tokenizer.tokenizer import Tokenizer
from tests.conftest import stream_in_process


class InProcess:
    """A pool whose shards are here."""

    def __init__(self, spans: list[Span], actors: int, out: StageDir | None = None) -> None:
        self.out = out
        threads = torch.get_num_threads()
        self._shards = [Shard(span) for span in spans]  # which takes one thread, as in an actor
        torch.set_num_threads(threads)

    @property
    def trained(self) -> int:
        return sum(self.map("count"))

    def map(self, method: str, *arguments: Any) -> list[Any]:
        return [getattr(shard, method)(*arguments) for shard in self._shards]

    def sum(self, method: str, *arguments: Any) -> Any:
        return added(self.map(method, *arguments))

    def close(self) -> None:
        self._shards = []


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without actors: a test that needs none takes a tenth of the time (tests/tokenizer/test_tokenise_on_ray.py)."""
    monkeypatch.setattr(stage, "Pool", InProcess)
    monkeypatch.setattr(encoding, "stream", stream_in_process)
    monkeypatch.setattr(stage, "tasks", stage.here)


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
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in Items.schema}, schema=Items.schema)


def vectors(count: int, dimension: int = 8) -> np.ndarray:
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((20, dimension))
    rows = centres[rng.integers(0, 20, count)] + 0.4 * rng.standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def world(folder: Path, table: pa.Table, rows: np.ndarray) -> dict[str, StageDir]:
    """Finished stages whose parts do not coincide."""
    catalogue, embedded = StageDir(f"{folder}/catalogue"), StageDir(f"{folder}/embed_aligned")
    for part, start in enumerate(range(0, len(table), 700)):
        Items(catalogue).write(table.slice(start, 700), f"part-{part:05d}.parquet")
    for part, start in enumerate(range(0, len(table), 450)):
        keys = table.select(["item_index", "item_id"]).slice(start, 450)
        piece = keys.append_column("embedding", column(rows[start : start + 450]))
        Embeddings(embedded).write(piece, f"part-{part:05d}.parquet")
    embedded.write_json("manifest.json", {"stage": "embed_aligned", "fingerprint": "0123456789abcdef"})
    prompt = {"content": ["{name}"], "location": ["city {city}"], "separator": ", "}
    embedded.write_json("encoder.json", {"kind": "hf", "model": "minilm", "weights": "5eed", "prompt": prompt})
    return {"catalogue": catalogue, "vectors": embedded}


def tokens_of(out: StageDir) -> np.ndarray:
    return Sids(out).tokens(Sids(out).count())


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StageDir]:
    return world(tmp_path_factory.mktemp("world"), items(2000), vectors(2000))


def config(*overrides: str) -> RunConfig:
    return load(None, ["tokenizer.sizes=[16, 12, 8]", "tokenizer.steps=20", *overrides])


def run(inputs: dict[str, StageDir], folder: Path, *overrides: str) -> tuple[StageDir, dict[str, Any]]:
    out = StageDir(f"{folder}/{uuid.uuid4().hex}").make()
    return out, tokenise(config(*overrides), inputs, out)


ENOUGH = "tokenizer.sizes=[16, 12, 24]"
"""More codes than items behind every first token, so that HGIT gives each a SID of its own."""
CHOSEN = "tokenizer.last_level=chosen"


def assert_shared_in_its_own_space(kind: str, inputs: dict[str, StageDir], folder: Path) -> None:
    """A tokenizer with a space of its own shares last tokens out there, and tells the error of what it gave."""
    out, facts = run(inputs, folder, f"tokenizer={{kind: {kind}, sizes: [16, 16, 16], last_level: shared}}")
    tokens, tokenizer = tokens_of(out), Tokenizer.load(out)
    error = np.square(vectors(2000) - tokenizer.decode(tokens)).sum(axis=1).mean()
    assert facts["reconstruction_error"] == pytest.approx(error, rel=1e-5)
    assert facts["relative_error"] < 0.9
    chosen = tokenizer.encode(items(2000), vectors(2000))
    assert np.array_equal(chosen[:, 0], tokens[:, 0])
    assert len(np.unique(tokens, axis=0)) > 1.1 * len(np.unique(chosen, axis=0))
