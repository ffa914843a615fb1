"""The rank and generate stages on a real local Ray: what they write, what they refuse, and resuming."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray.train
from safetensors.torch import load

from lgsid_ray.artifacts import schemas as tables
from lgsid_ray.config import load as load_config
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend import stage

ITEMS, USERS, EVENTS = 40, 60, 20
SETTINGS = [
    "rank.seeds=1",
    "rank.dimension=8",
    "rank.hidden=8",
    "rank.history=5",
    "rank.batch_size=128",
    "rank.learning_rate=0.01",
    "rank.trainer.checkpoint_steps=7",
    "generate.dimension=32",
    "generate.heads=2",
    "generate.history=3",
    "generate.epochs=12",
    "generate.batch_size=64",
    "generate.learning_rate=0.01",
    "generate.dropout=0",
]


def inputs(folder: Path, times: bool = True, events: bool = True) -> dict[str, StageDir]:
    """Visits that walk from item to item, in order of their number, and SIDs."""
    found = {name: StageDir(f"{folder}/{name}").make() for name in ("catalogue", "tokenise")}
    index = np.arange(ITEMS)
    flags = {f"{level}_filled": [False] * ITEMS for level in ("province", "city", "district")}
    texts = {
        name: ["x"] * ITEMS for name in ("name", "brand", "category_1", "category_2", "province", "city", "district")
    }
    ids = [f"i{item}" for item in index]
    place = {"lat": 40 + index / 50, "lon": index / 40, "price": index * 1.0, "split": ["train"] * ITEMS}
    items = pa.table({"item_index": index, "item_id": ids, **texts, **place, **flags})
    found["catalogue"].write_table("items/part-00000.parquet", tables.conform(items, tables.ITEMS, "items"))
    tokens = pa.array(np.column_stack([index // 10, index // 3 % 4]).tolist())
    sids = pa.table({"item_index": index, "item_id": ids, "tokens": tokens, "collision": index % 3, "sid": ids})
    found["tokenise"].write_table("sids.parquet", tables.conform(sids, tables.SIDS, "sids"))
    if events:
        user, step = np.divmod(np.arange(USERS * EVENTS), EVENTS)
        item = (user * 7 + step) % ITEMS
        thirds = np.array(["train", "valid", "test"])
        log = pa.table(
            {
                "user_id": [f"u{u}" for u in user],
                "item_index": item,
                "item_id": [f"i{i}" for i in item],
                "timestamp": pa.array(step if times else [None] * len(step), pa.int64()),
                "label": pa.array(np.full(len(user), 1.0) if times else 1.0 + item % 5),
                "rank_split": thirds[np.searchsorted([14, 17], step, side="right")],
                "generate_split": thirds[np.searchsorted([EVENTS - 2, EVENTS - 1], step, side="right")],
            }
        )
        name = "interactions/part-00000.parquet"
        found["catalogue"].write_table(name, tables.conform(log, tables.INTERACTIONS, "interactions"))
    return found


def test_generate_learns_the_walk_and_ends_the_same_when_its_manifest_was_missed(
    ray_local: None, tmp_path: Path
) -> None:
    out = StageDir(f"{tmp_path}/generate").make()
    facts = stage.generate(load_config(None, SETTINGS), inputs(tmp_path), out)
    metrics = out.read_json("metrics.json")
    assert metrics["models"]["tiger"]["test"]["all"]["hit@5"] > 0.8
    assert (
        metrics["models"]["tiger"]["test"]["all"]["hit@5"] > metrics["baselines"]["popularity"]["test"]["all"]["hit@5"]
    )
    assert facts["tiger/hit@10"] == metrics["models"]["tiger"]["test"]["all"]["hit@10"]
    assert out.read_json("history.json")[-1]["epoch"] == 12
    names = ["history.json", "metrics.json", "weights.safetensors"]
    assert sorted(os.listdir(tmp_path / "generate")) == [*names, "work"]
    # Killed after the last step and before the manifest: everything to end from must still be there.
    before = {name: out.read(name) for name in names}
    assert stage.generate(load_config(None, SETTINGS), inputs(tmp_path), out) == facts
    assert {name: out.read(name) for name in names} == before


def dies_at(loop: Callable[[dict[str, Any]], None], count: int) -> Callable[[dict[str, Any]], None]:
    """The loop, whose workers are killed before step `count`."""

    def dying(settings: dict[str, Any]) -> None:
        from lgsid_ray.recommend.fitting import Schedule

        scale = Schedule.scale

        def fatal(self: Schedule, step: int) -> float:
            if step == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return scale(self, step)

        Schedule.scale = fatal  # type: ignore[method-assign]
        loop(settings)

    return dying


KILLED = [*SETTINGS, "rank.trainer.max_failures=0"]


@pytest.fixture(scope="module")
def disturbed(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with the inputs, an undisturbed run (`calm`) and one that was killed (`hurt`); the former's facts."""
    folder = tmp_path_factory.mktemp("rank")
    config, tables_in = load_config(None, KILLED), inputs(folder)
    calm, hurt = (StageDir(f"{folder}/{name}").make() for name in ("calm", "hurt"))
    expected = stage.rank(config, tables_in, calm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_loop", dies_at(stage._loop, 50))
        with pytest.raises(ray.train.TrainingFailedError):
            stage.rank(config, tables_in, hurt)
    assert not hurt.exists("metrics.json")
    assert hurt.exists("work/train")
    return folder, expected


@pytest.mark.parametrize("torn", [False, True])
def test_rank_killed_and_started_again_ends_like_an_undisturbed_run(
    disturbed: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool
) -> None:
    folder, expected = disturbed
    calm, hurt = StageDir(f"{folder}/calm"), StageDir(str(shutil.copytree(folder / "hurt", tmp_path / "hurt")))
    if torn:
        # Ray writes its list of checkpoints in place: a kill may leave half of it.
        Path(hurt.path("work/train/checkpoint_manager_snapshot.json")).write_text('{"latest_')
    else:
        monkeypatch.setattr(stage, "_loop", dies_at(stage._loop, 0))  # it must not begin anew
    tables_in = {name: StageDir(f"{folder}/{name}") for name in ("catalogue", "tokenise")}
    assert stage.rank(load_config(None, KILLED), tables_in, hurt) == expected
    assert expected["din/lgsid/auc"] > 0.5
    for name in ("metrics.json", "history.json"):
        assert hurt.read_json(name) == calm.read_json(name)
    assert hurt.read(stage.WEIGHTS) == calm.read(stage.WEIGHTS)
    assert load(calm.read(stage.WEIGHTS)).keys() >= {"members.din/lgsid/0.items.by_level.1.weight"}


def test_without_what_they_need_the_stages_say_so_and_end(tmp_path: Path) -> None:
    config = load_config(None, SETTINGS)
    silent = inputs(tmp_path / "silent", events=False)
    timeless = inputs(tmp_path / "timeless", times=False)
    for name, function, given, reason in (
        ("a", stage.rank, silent, "no interactions"),
        ("b", stage.generate, silent, "no interactions"),
        ("c", stage.generate, timeless, "no time stamps"),
    ):
        out = StageDir(f"{tmp_path}/{name}").make()
        assert reason in function(config, given, out)["skipped"]
        assert reason in out.read_json("metrics.json")["skipped"]
        assert out.read_json("history.json") == []


def test_sids_that_do_not_fit_the_catalogue_are_refused(tmp_path: Path) -> None:
    given = inputs(tmp_path)
    sids = given["tokenise"].read_table("sids.parquet")
    given["tokenise"].write_table("sids.parquet", sids.slice(1))
    with pytest.raises(StorageError, match="39 SIDs"):
        stage.rank(load_config(None, SETTINGS), given, StageDir(f"{tmp_path}/rank").make())
