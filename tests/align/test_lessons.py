"""What training workers read: every step's items with their own prompts and vectors, whatever the windows and spans."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.align import lessons as lessons_module
from lgsid_ray.align import stage
from lgsid_ray.align.lessons import LESSONS, Lessons, prepare
from lgsid_ray.align.probe import nearest
from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Embeddings, Items
from lgsid_ray.config import RunConfig
from lgsid_ray.config.encoder import PromptConfig
from lgsid_ray.encoder.prompts import full_prompts
from lgsid_ray.errors import StorageError
from lgsid_ray.execution import stream
from lgsid_ray.execution.storage import StageDir

Inputs = dict[str, StageDir]
TAUGHT = ("catalogue", "embed", "fuse")


def asks(step: int) -> Int64:
    return np.random.default_rng(step).integers(0, 48, (4, 3))


def prepared(inputs: Inputs, folder: Path, names: tuple[str, ...] = TAUGHT, steps: int = 5) -> Lessons:
    read = {name: inputs[name] for name in names}
    return prepare(read, PromptConfig(), asks, steps, 10, 0, StageDir(str(folder)).make())


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of two steps, spans of 20 of the 48 items; tasks are done in this process."""
    monkeypatch.setattr(lessons_module, "WINDOW_ROWS", 24)
    monkeypatch.setattr(lessons_module, "SPAN_ROWS", 20)
    monkeypatch.setattr(lessons_module, "tasks", stream.here)


def test_every_step_finds_its_items_with_their_prompts_and_vectors(
    inputs: Inputs, tmp_path: Path, small_pieces: None
) -> None:
    lessons = prepared(inputs, tmp_path)
    items, spaces = inputs["catalogue"].read_table("items"), [Embeddings(inputs[name]) for name in TAUGHT[1:]]
    assert [lessons.window(step) for step in range(5)] == [0, 0, 1, 1, 2]
    for step in range(5):
        corpus = lessons.corpus(lessons.window(step))
        wanted = lessons.asked(lessons.window(step))[step % 2]
        assert wanted.tolist() == asks(step).ravel().tolist()
        rows = corpus.rows(wanted)
        assert corpus.index[rows].tolist() == wanted.tolist()
        assert [corpus.prompts[row] for row in rows] == full_prompts(items.take(wanted), PromptConfig())
        assert corpus.teacher is not None
        for space, found in zip(spaces, (corpus.reference, corpus.teacher), strict=True):
            assert np.array_equal(found.numpy(), space.of(corpus.index))
        assert len(corpus.index) <= 24, "a window alone is held"


def test_what_judges_is_there_with_what_lies_around_it(inputs: Inputs, tmp_path: Path, small_pieces: None) -> None:
    lessons = prepared(inputs, tmp_path)
    assert set(lessons.probe) <= set(Items(inputs["catalogue"]).training().tolist())
    assert len(lessons.queries) == 10
    around = [nearest(Embeddings(inputs[name]), lessons.queries, 10) for name in TAUGHT[1:]]
    assert set(lessons.around) == set(np.concatenate(around).ravel()) - set(lessons.queries)
    assert lessons.judging().index.tolist() == sorted({*lessons.probe, *lessons.queries, *lessons.around})
    untaught = prepared(inputs, tmp_path / "untaught", TAUGHT[:2])
    alone = nearest(Embeddings(inputs["embed"]), untaught.queries, 10)
    assert set(untaught.around) == set(alone.ravel()) - set(untaught.queries)
    assert untaught.corpus(0).teacher is None
    assert untaught.queries.tolist() == lessons.queries.tolist()
    assert lessons.control is not None
    assert untaught.control is None


def test_districts_of_one_name_in_two_provinces_are_two(inputs: Inputs, tmp_path: Path) -> None:
    items = inputs["catalogue"].read_table("items")
    for name in ("city", "district"):
        items = items.set_column(items.column_names.index(name), name, pa.array(["Springfield"] * len(items)))
    same = StageDir(f"{tmp_path}/catalogue")
    same.write_table("items/part-00000.parquet", items)
    corpus = prepared({**inputs, "catalogue": same}, tmp_path / "out").judging()
    provinces = np.array(items.column("province").to_pylist())[corpus.index]
    assert len(set(provinces)) == 2
    assert np.array_equal(corpus.districts[:, None] == corpus.districts, provinces[:, None] == provinces)


@pytest.mark.parametrize("objective", ["gdpo", "distil"])
def test_windows_and_spans_change_nothing_that_is_learnt(
    objective: str,
    trained_reward: Inputs,
    configure: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, histories = configure(f"align.objective={objective}"), []
    for rows, span in ((10_000, 10_000), (24, 7), (1, 48)):
        monkeypatch.setattr(lessons_module, "WINDOW_ROWS", rows)
        monkeypatch.setattr(lessons_module, "SPAN_ROWS", span)
        monkeypatch.setattr(lessons_module, "tasks", stream.here)
        out = StageDir(f"{tmp_path}/{rows}").make()
        stage.align(config, trained_reward, out)
        histories.append((out.read_json("history.json"), out.read("adapter/adapter_model.safetensors")))
    assert histories[0] == histories[1] == histories[2]


def test_what_an_interrupted_call_left_whole_is_not_made_again(inputs: Inputs, tmp_path: Path) -> None:
    lessons = prepared(inputs, tmp_path)
    part = f"{LESSONS}/asked/part-00000.parquet"
    before = lessons.out.fs.modified(lessons.out.path(part))
    again = prepared(inputs, tmp_path)
    assert again.out.fs.modified(again.out.path(part)) == before
    assert again.judges().tolist() == lessons.judges().tolist()
    lessons.out.remove(f"{LESSONS}/whole.json")
    lessons.out.write_table(f"{LESSONS}/0/part-00099.parquet", pa.table({"torn": [1]}))
    assert prepared(inputs, tmp_path).corpus(0).prompts == lessons.corpus(0).prompts


def test_items_that_are_not_in_the_tables_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    read = {name: inputs[name] for name in TAUGHT}
    lessons = prepare(read, PromptConfig(), lambda _: np.array([1, 2, 48]), 1, 10, 0, StageDir(f"{tmp_path}/a").make())
    with pytest.raises(StorageError, match=r"does not hold each of 3 wanted items.*delete"):
        lessons.corpus(0)
    short = StageDir(f"{tmp_path}/short")
    short.write_table("embeddings/part-00000.parquet", inputs["embed"].read_table("embeddings").slice(0, 47))
    with pytest.raises(StorageError, match="do not belong together: 48 items, 47 embeddings"):
        prepared({**inputs, "embed": short}, tmp_path / "b")
