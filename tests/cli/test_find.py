"""`lgsid find` on a run that the test writes itself: by the aligned encoder, where there is none by the reference."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import Result
from typer.testing import CliRunner

from lgsid_ray.artifacts import Embeddings, Items
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.cli.app import app
from lgsid_ray.config import RunConfig, load
from lgsid_ray.encoder.model import identity, make_encoder
from lgsid_ray.encoder.prompts import full_prompts
from lgsid_ray.execution.run import Manifest
from lgsid_ray.execution.storage import StageDir
from tests.encoder.test_probes import tiny

COUNT = 30
PRINTS = {"catalogue": "c" * 16, "align": "a" * 16, "embed": "e" * 16, "embed_aligned": "f" * 16}


def lgsid(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "160", "TERM": "dumb"}).invoke(app, ["find", *words])


def items() -> pa.Table:
    columns: dict[str, Any] = {field.name: pa.nulls(COUNT, field.type) for field in Items.schema}
    columns |= {"item_index": range(COUNT), "item_id": [f"i{row}" for row in range(COUNT)]}
    columns |= {"name": [f"[b]place[/b] {row}" for row in range(COUNT)], "category_1": ["bar", "bakery"] * (COUNT // 2)}
    columns |= {"city": [f"town {row // 10}" for row in range(COUNT)], "province": ["north"] * COUNT}
    return pa.table(columns)


@pytest.fixture
def home(tmp_path: Path) -> StageDir:
    found = StageDir(str(tmp_path / "run")).make()
    config = load(None, ["encoder.kind=random_projection", "encoder.dimension=64", "encoder.prompt.query_prefix=''"])
    found.write_json("config.json", config.model_dump(mode="json", by_alias=True))
    Items(found.child(f"catalogue/{PRINTS['catalogue']}")).write(items(), "part-00000.parquet")
    return found


def embed(home: StageDir, stage: str, config: RunConfig, path: str | None = None) -> list[str]:
    """Finish a stage of embeddings in two parts; returns the prompts."""
    table, out = items(), home.child(f"{stage}/{PRINTS[stage]}")
    prompts = full_prompts(table, config.encoder.prompt)
    vectors = make_encoder(config.encoder, path).encode(prompts)
    keys = table.select(["item_index", "item_id"]).append_column("embedding", column(vectors))
    for start in (0, 17):
        Embeddings(out).write(keys.slice(start, 17 if start == 0 else None), f"part-{start:05d}.parquet")
    told = {"stage": stage, "fingerprint": PRINTS[stage], "version": "0", "cell": None, "seed": None}
    told |= {"config": {"encoder": config.encoder.identity()}, "inputs": PRINTS, "sources": [], "code": {}}
    told |= {"facts": {}, "seconds": 1.0, "peak_memory_mb": 1.0, "finished": "2026-01-01T00:00:00+00:00"}
    out.write_json("encoder.json", identity(config.encoder, path))
    out.write_json("manifest.json", Manifest.model_validate(told).model_dump(mode="json"))
    return prompts


def found_ids(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return re.findall(r"^ *(i\d+) ", result.stdout, re.MULTILINE)


def test_the_nearest_by_the_reference_encoder(home: StageDir) -> None:
    config = load(None, ["encoder.kind=random_projection", "encoder.dimension=48"])  # not the latest run's
    prompts = embed(home, "embed", config)
    vectors = make_encoder(config.encoder).encode(prompts)
    for asked in (0, 20):
        result = lgsid(prompts[asked], "--out", home.root, "--count", "4")
        best = np.lexsort((np.arange(COUNT), -(vectors @ vectors[asked])))[:4]
        assert found_ids(result) == [f"i{row}" for row in best]
        assert f"[b]place[/b] {asked}" in result.stdout  # no markup
        assert "1.000" in result.stdout
        assert "has not aligned" in result.output


def test_the_aligned_encoder_goes_first_with_the_settings_of_its_own(home: StageDir) -> None:
    random = load(None, ["encoder.kind=random_projection", "encoder.dimension=64"])
    embed(home, "embed", random)
    config, model = load(None, []), tiny(home.child(f"align/{PRINTS['align']}"), 0)
    prompts = embed(home, "embed_aligned", config, model)
    result = lgsid(prompts[7], "--out", home.root, "--count", "1")
    assert found_ids(result) == ["i7"]
    assert f"embed_aligned/{PRINTS['embed_aligned']}" in result.stdout
    assert "has not aligned" not in result.output


def test_where_nothing_is_embedded_the_way_out_is_told(home: StageDir) -> None:
    result = lgsid("bar", "--out", home.root)
    assert result.exit_code == 5
    assert "has no embeddings; run lgsid embed with --out" in " ".join(result.output.split())
