"""The embedding stages on real actors: in item order, continued in the middle, the same on any pool."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Embeddings, Items, Lists, Negatives
from lgsid_ray.artifacts.embeddings import vectors
from lgsid_ray.config import RunConfig, load
from lgsid_ray.config.encoder import EncoderConfig, PromptConfig
from lgsid_ray.encoder import stage as stages
from lgsid_ray.encoder.model import identity, locate_model, make_encoder
from lgsid_ray.encoder.prompts import combine, content_prompts, full_prompts, location_prompts
from lgsid_ray.encoder.stage import embed, embed_aligned, embed_content, embed_lists
from lgsid_ray.errors import ConfigError, StorageError
from lgsid_ray.execution.failure import explain
from lgsid_ray.execution.storage import StageDir
from tests.conftest import stream_in_process

pytestmark = pytest.mark.usefixtures("ray_local")

Inputs = dict[str, StageDir]
COUNT, NEGATIVES_OF_EACH = 60, 3
RANDOM = ("encoder.kind=random_projection", "encoder.dimension=16", "encoder.rows=8")


def items(count: int) -> pa.Table:
    columns = {
        "item_index": np.arange(count),
        "item_id": [f"i{(7 * row) % count:03d}" for row in range(count)],  # not in the order of the index
        "name": [f"place {row % 11}" for row in range(count)],
        "brand": [f"b{row % 7}" if row % 3 else None for row in range(count)],
        "price": [row / 4 if row % 5 else None for row in range(count)],
        "city": [f"q{row % 13}" for row in range(count)],
        "district": [f"r{row % 17}" if row % 2 else None for row in range(count)],
    }
    return pa.table({f.name: pa.array(columns.get(f.name, [None] * count), f.type) for f in Items.schema})


def lists(anchors: list[int]) -> pa.Table:
    rng = np.random.default_rng(0)
    columns = {
        "item_index": anchors,
        "negatives": rng.integers(0, COUNT, (len(anchors), NEGATIVES_OF_EACH)).tolist(),
        "distance_km": [None] * len(anchors),
        "rank": [None] * len(anchors),
    }
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in Negatives.schema})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A catalogue in three parts and anchors (not all items) in two."""
    home = StageDir(str(tmp_path_factory.mktemp("inputs")))
    catalogue, sample = home.child("catalogue"), home.child("sample")
    for part, (start, rows) in enumerate([(0, 25), (25, 8), (33, 27)]):
        Items(catalogue).write(items(COUNT).slice(start, rows), f"part-{part:05d}.parquet")
    for part, anchors in enumerate([list(range(1, 20, 2)), list(range(40, 53))]):
        Negatives(sample).write(lists(anchors), f"part-{part:05d}.parquet")
    return {"catalogue": catalogue, "sample": sample}


def config(*overrides: str) -> RunConfig:
    kind = [] if any(o.startswith("encoder.kind") for o in overrides) else RANDOM
    return load(None, [*kind, "tokenizer.embeddings=origin", *overrides])


def run(
    stage: Callable[..., dict[str, Any]], inputs: Inputs, folder: Path, *overrides: str
) -> tuple[StageDir, dict[str, Any]]:
    out = StageDir(f"{folder}/{uuid.uuid4().hex}").make()
    return out, stage(config(*overrides), inputs, out)


def rows(out: StageDir, table: str = "embeddings") -> np.ndarray:
    """(rows, width) vectors of a table in part order."""
    return vectors(out.read_table(table))


def reference(texts: list[str], settings: EncoderConfig, path: str | None = None) -> np.ndarray:
    return make_encoder(settings, path).encode(texts)


def stamps(out: StageDir, table: str) -> dict[str, int]:
    return {part: Path(part).stat().st_mtime_ns for part in out.parts(table)}


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> StageDir:
    return run(embed, inputs, tmp_path_factory.mktemp("whole"))[0]


@pytest.fixture(scope="module")
def whole_lists(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> StageDir:
    return run(embed_lists, inputs, tmp_path_factory.mktemp("whole-lists"))[0]


def test_every_item_has_its_vector_in_item_order(inputs: Inputs, tmp_path: Path) -> None:
    for stage, prompts in ((embed, full_prompts), (embed_content, content_prompts)):
        out, facts = run(stage, inputs, tmp_path)
        table = out.read_table("embeddings")
        assert table.schema.equals(Embeddings(out).conform(table).schema)
        assert table.column("embedding").type.list_size == 16
        assert table.column("item_index").to_pylist() == list(range(COUNT))
        assert table.column("item_id").to_pylist() == items(COUNT).column("item_id").to_pylist()
        settings = config().encoder
        expected = reference(prompts(items(COUNT), settings.prompt), settings)
        assert np.allclose(rows(out), expected, atol=1e-5)
        assert np.allclose(np.linalg.norm(rows(out), axis=1), 1, atol=1e-5)
        parts = 4 + 1 + 4  # of 25, 8 and 27 rows in runs of 8: no part crosses those of the items
        assert facts == {"rows": COUNT, "parts": parts, "computed_parts": parts}
        assert len(out.parts("embeddings")) == parts
        assert out.read_json("encoder.json") == identity(settings)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without actors, where a test does not turn on them."""
    monkeypatch.setattr(stages, "stream", stream_in_process)


@pytest.mark.usefixtures("in_process")
def test_lists_hold_the_true_prompt_first_and_then_the_mismatched(inputs: Inputs, tmp_path: Path) -> None:
    overrides = ('encoder.prompt.content=["{name}", "{brand}"]', 'encoder.prompt.separator=" / "')
    out, facts = run(embed_lists, inputs, tmp_path, *overrides)
    settings = config(*overrides).encoder
    given, found = inputs["sample"].read_table("negatives"), out.read_table("lists")
    assert found.schema.equals(Lists(out).conform(found).schema)
    assert found.column("embedding").type.list_size == (NEGATIVES_OF_EACH + 1) * 16
    assert found.column("item_index").to_pylist() == given.column("item_index").to_pylist()
    assert found.column("negatives").to_pylist() == given.column("negatives").to_pylist()
    assert facts["rows"] == len(given) == 23
    contents = content_prompts(items(COUNT), settings.prompt)
    locations = location_prompts(items(COUNT), settings.prompt)
    for row, embedded in zip(given.to_pylist(), rows(out, "lists").reshape(23, -1, 16), strict=True):
        anchor = row["item_index"]
        theirs = [locations[other] for other in (anchor, *row["negatives"])]
        texts = combine([contents[anchor]] * len(theirs), theirs, PromptConfig(separator=" / "))
        assert np.allclose(embedded, reference(texts, settings), atol=1e-5)
        assert texts[0] == full_prompts(items(COUNT), settings.prompt)[anchor]
        assert np.allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)


def test_lists_of_items_that_the_catalogue_lacks_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    short = StageDir(str(tmp_path / "catalogue"))
    Items(short).write(items(COUNT).slice(0, 30), "part-00000.parquet")
    with pytest.raises(StorageError, match=r"do not belong together.*delete .*sample"):
        run(embed_lists, {**inputs, "catalogue": short}, tmp_path)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("stage", "table", "undisturbed"), [(embed, "embeddings", "whole"), (embed_lists, "lists", "whole_lists")]
)
def test_a_killed_stage_continues_with_the_parts_that_are_missing(
    inputs: Inputs,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    stage: Callable[..., dict[str, Any]],
    table: str,
    undisturbed: str,
) -> None:
    out, _ = run(stage, inputs, tmp_path)
    parts = out.parts(table)
    for part in (parts[1], parts[-1]):
        out.fs.rm(part)
    with out.fs.open(f"{parts[1]}.0a1b2c3d.part", "wb") as torn:  # what a kill in the middle of a write leaves
        torn.write(b"PAR1")
    before = stamps(out, table)
    facts = stage(config(), inputs, out)
    after = stamps(out, table)
    assert facts["computed_parts"] == 2
    assert facts["parts"] == len(parts) == len(after)
    assert {part: after[part] for part in before} == before, "finished parts are not written again"
    assert out.read_table(table).equals(request.getfixturevalue(undisturbed).read_table(table))


def test_a_finished_stage_computes_nothing(inputs: Inputs, whole: StageDir) -> None:
    before = stamps(whole, "embeddings")
    facts = embed(config(), inputs, whole)
    assert facts["computed_parts"] == 0
    assert facts["rows"] == COUNT
    assert stamps(whole, "embeddings") == before


@pytest.mark.usefixtures("in_process")
def test_parts_of_another_encoder_are_not_continued(inputs: Inputs, tmp_path: Path) -> None:
    """As when the weights at a path were exchanged between a kill and the next call."""
    out, _ = run(embed, inputs, tmp_path)
    out.fs.rm(out.parts("embeddings")[0])
    with pytest.raises(StorageError, match=f"{out.root} holds embeddings of another encoder.*delete"):
        embed(config("encoder.dimension=24"), inputs, out)
    for part in out.parts("embeddings"):
        out.fs.rm(part)
    embed(config("encoder.dimension=24"), inputs, out)
    assert rows(out).shape == (COUNT, 24)


# What is changed, field by field; `test_model.py` does the same for what only a language model has.
CHANGES = ["dimension=24", 'prompt.content=["{name}"]', 'prompt.location=["{city}"]', 'prompt.separator=" a "']
NO_CHANGES = ["actors=1", "batch_size=1", "rows=1000"]
ONLY_OF_LANGUAGE_MODELS = {"kind", "model", "pooling", "max_tokens", "dtype"}
ONLY_WITH_A_GPU = {"gpus_per_actor"}


def test_the_two_walks_below_leave_no_field_out() -> None:
    walked = {change.split("=")[0].split(".")[0] for change in [*CHANGES, *NO_CHANGES]}
    assert walked | ONLY_OF_LANGUAGE_MODELS | ONLY_WITH_A_GPU == set(EncoderConfig.model_fields)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("change", CHANGES)
def test_every_field_that_claims_to_changes_the_vectors(
    inputs: Inputs, whole: StageDir, tmp_path: Path, change: str
) -> None:
    other = rows(run(embed, inputs, tmp_path, f"encoder.{change}")[0])
    assert other.shape != rows(whole).shape or np.abs(other - rows(whole)).max() > 1e-3


@pytest.mark.parametrize("change", NO_CHANGES)
def test_the_pool_and_the_units_of_work_change_nothing(
    inputs: Inputs, whole: StageDir, whole_lists: StageDir, tmp_path: Path, request: pytest.FixtureRequest, change: str
) -> None:
    if change != "actors=1":
        request.getfixturevalue("in_process")
    for stage, table, base in ((embed, "embeddings", whole), (embed_lists, "lists", whole_lists)):
        out, _ = run(stage, inputs, tmp_path, f"encoder.{change}")
        keys = ["item_index", "item_id" if table == "embeddings" else "negatives"]
        assert out.read_table(table, keys).equals(base.read_table(table, keys))
        assert np.allclose(rows(out, table), rows(base, table), atol=1e-5)


@pytest.mark.usefixtures("in_process")
def test_the_language_model_and_the_aligned_model_in_its_place(inputs: Inputs, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertConfig, BertModel

    align = StageDir(f"{tmp_path}/align")
    tokenizer = AutoTokenizer.from_pretrained(locate_model("minilm"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(align.path("model"))
    tokenizer.save_pretrained(align.path("model"))

    hf = ("encoder.kind=hf", "encoder.batch_size=7", "encoder.rows=20", "encoder.actors=2")
    settings = config(*hf).encoder
    texts = full_prompts(items(COUNT), settings.prompt)
    out, _ = run(embed, inputs, tmp_path, *hf)
    assert np.allclose(rows(out), reference(texts, settings), atol=1e-5)
    out, _ = run(embed_aligned, {**inputs, "align": align}, tmp_path, *hf)
    assert rows(out).shape == (COUNT, 32)
    assert np.allclose(rows(out), reference(texts, settings, align.path("model")), atol=1e-5)
    assert out.read_json("encoder.json") == identity(settings, align.path("model")) != identity(settings)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("encoder.kind=hf", "encoder.actors=1", "encoder.model={folder}/nowhere"), "encoder.model .*/nowhere: cannot"),
        (('encoder.prompt.content=["{owner}"]',), "encoder.prompt: .*'owner'"),
    ],
)
def test_what_an_actor_refuses_reaches_the_user(
    inputs: Inputs, tmp_path: Path, overrides: tuple[str, ...], named: str
) -> None:
    with pytest.raises(Exception) as caught:  # Ray wraps it; `explain` is what the command line prints
        run(embed, inputs, tmp_path, *(override.replace("{folder}", str(tmp_path)) for override in overrides))
    with pytest.raises(ConfigError, match=named):
        raise explain(caught.value) or caught.value
