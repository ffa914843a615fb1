"""The cells and tables of both families on a real local Ray: what they write, what they refuse, and resuming."""

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

from lgsid_ray.artifacts import Interactions, Items
from lgsid_ray.config import load as load_config
from lgsid_ray.config.recommend import DinConfig, GenerateCell, RankCell, TigerConfig
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.stage import Cell, Facts
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend import training
from lgsid_ray.recommend.generators import stage as generators
from lgsid_ray.recommend.rankers import stage as rankers
from tests.recommend.conftest import write_sids

ITEMS, USERS, EVENTS = 40, 60, 20
SETTINGS = [
    "rank.history=5",
    "rank.batch_size=128",
    "rank.learning_rate=0.01",
    "rank.trainer.checkpoint_steps=7",
    "rank.trainer.max_failures=0",
    "generate.history=3",
    "generate.epochs=12",
    "generate.batch_size=64",
    "generate.learning_rate=0.01",
]
DIN, TIGER = DinConfig(dimension=8, hidden=8), TigerConfig(dimension=32, heads=2)
FILES = ["history.json", "metrics.json", "weights.safetensors"]


def inputs(folder: Path, times: bool = True, events: bool = True, places: bool = True) -> dict[str, StageDir]:
    """Visits that walk from item to item, in order of their number, and SIDs."""
    found = {name: StageDir(f"{folder}/{name}").make() for name in ("catalogue", "tokenise")}
    index = np.arange(ITEMS)
    columns: dict[str, Any] = {field.name: pa.nulls(ITEMS, field.type) for field in Items.schema}
    columns |= {"item_index": index, "item_id": [f"i{item}" for item in index], "split": ["train"] * ITEMS}
    if places:
        columns |= {"lat": 40 + index / 50, "lon": index / 40}
    Items(found["catalogue"]).write(pa.table(columns), "part-00000.parquet")
    write_sids(found["tokenise"], np.column_stack([index // 10, index // 3 % 4]), index % 3)
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
        Interactions(found["catalogue"]).write(log, "part-00000.parquet")
    return found


def cells(given: dict[str, StageDir], out: Path, *names: str) -> list[Cell]:
    """Cells by name; `origin` reads no SIDs."""
    made = []
    for name in names:
        family, _, arm, seed = name.split("/")
        model = RankCell(model=DIN, seed=int(seed)) if family == "rank" else GenerateCell(model=TIGER, seed=int(seed))
        read = {"catalogue": given["catalogue"]} if arm == "origin" else given
        made.append(Cell(name, model, read, StageDir(f"{out}/{name}").make()))
    return made


def by_name(given: dict[str, StageDir], trained: list[Cell]) -> dict[str, StageDir]:
    return {"catalogue": given["catalogue"]} | {cell.name: cell.out for cell in trained}


def written(cell: Cell) -> dict[str, bytes]:
    return {name: cell.out.read(name) for name in FILES}


def test_a_generator_learns_the_walk_and_its_table_stands_beside_trivial_ones(ray_local: None, tmp_path: Path) -> None:
    given, config = inputs(tmp_path), load_config(None, SETTINGS)
    [cell] = cells(given, tmp_path, "generate/tiger/hgit/0")
    [facts] = generators.train(config, [cell])
    assert facts["test"]["next"]["hit@5"] > 0.8
    assert cell.out.read_json("history.json")[-1]["epoch"] == 12
    assert cell.out.members("") == {*FILES, "work"}
    out = StageDir(f"{tmp_path}/generate").make()
    told = generators.generate(config, by_name(given, [cell]), out)
    metrics = out.read_json("metrics.json")
    test = {name: table["test"]["next"]["hit@5"] for name, table in (metrics["models"] | metrics["baselines"]).items()}
    assert test["tiger/hgit"] == facts["test"]["next"]["hit@5"] > test["popularity"]
    assert told["tiger/hgit/hit@10"] == facts["test"]["next"]["hit@10"]
    assert out.read_json("history.json")[-1].keys() == {"step", "epoch", "tiger/hgit/0/valid"}


NAMES = ("rank/din/origin/0", "rank/din/hgit/0", "rank/din/hgit/1")


def dies_at(loop: Callable[[dict[str, Any]], None], count: int) -> Callable[[dict[str, Any]], None]:
    """The loop, whose workers are killed before step `count`."""

    def dying(task: dict[str, Any]) -> None:
        from lgsid_ray.recommend.fitting import Schedule

        share = Schedule.share

        def fatal(self: Schedule, shuffled: Any, step: int, *where: int) -> Any:
            if step == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return share(self, shuffled, step, *where)

        Schedule.share = fatal  # type: ignore[method-assign]
        loop(task)

    return dying


@pytest.fixture(scope="module")
def disturbed(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Facts]]:
    """A folder with inputs, an undisturbed run (`calm`) and one that was killed (`hurt`); the former's facts."""
    folder = tmp_path_factory.mktemp("rank")
    config, given = load_config(None, SETTINGS), inputs(folder)
    expected = rankers.train(config, cells(given, folder / "calm", *NAMES))
    hurt = cells(given, folder / "hurt", *NAMES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_loop", dies_at(training._loop, 50))
        with pytest.raises(ray.train.TrainingFailedError):
            rankers.train(config, hurt)
    assert not any(cell.out.exists("metrics.json") for cell in hurt)
    assert hurt[0].out.exists("work/train")
    return folder, expected


def again(folder: Path) -> dict[str, StageDir]:
    return {name: StageDir(f"{folder}/{name}") for name in ("catalogue", "tokenise")}


def test_cells_killed_and_started_again_end_like_undisturbed_ones(
    disturbed: tuple[Path, list[Facts]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = disturbed
    shutil.copytree(folder / "hurt", tmp_path / "hurt")
    calm, hurt = (cells(again(folder), root, *NAMES) for root in (folder / "calm", tmp_path / "hurt"))
    home = hurt[0].out
    # The folders are others than those of the killed call: without this they would be other cells.
    monkeypatch.setattr(training, "_loop", dies_at(training._loop, 0))  # it must not begin anew
    home.write_json("work/cells.json", [cell.out.uri for cell in hurt])
    assert rankers.train(load_config(None, SETTINGS), hurt) == expected
    assert [written(cell) for cell in hurt] == [written(cell) for cell in calm]
    assert expected[1]["test"]["auc"] > 0.5


def test_a_kill_between_publications_trains_nothing_again(
    disturbed: tuple[Path, list[Facts]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = disturbed
    shutil.copytree(folder / "calm", tmp_path / "calm")
    trained = cells(again(folder), tmp_path / "calm", *NAMES)
    trained[0].out.write_json("work/cells.json", [cell.out.uri for cell in trained])
    whole = [written(cell) for cell in trained]
    for name in FILES:
        trained[2].out.remove(name)
    before = os.stat(trained[1].out.path("weights.safetensors")).st_mtime_ns
    monkeypatch.setattr(training, "_loop", dies_at(training._loop, 0))
    assert rankers.train(load_config(None, SETTINGS), trained) == expected
    assert [written(cell) for cell in trained] == whole
    assert os.stat(trained[1].out.path("weights.safetensors")).st_mtime_ns == before


def test_an_added_cell_trains_alone_and_learns_what_it_would_beside_others(
    disturbed: tuple[Path, list[Facts]], tmp_path: Path
) -> None:
    folder, expected = disturbed
    calm = cells(again(folder), folder / "calm", *NAMES)
    before = [written(cell) for cell in calm[:2]]
    [added] = cells(again(folder), tmp_path, NAMES[2])
    config = load_config(None, SETTINGS)
    [facts] = rankers.train(config, [added])
    assert facts["best_epoch"] == expected[2]["best_epoch"]
    one, beside = (load(cell.out.read("weights.safetensors")) for cell in (added, calm[2]))
    assert one.keys() == beside.keys() >= {"items.by_level.1.weight", "attention.activation.mean"}
    for name, weight in one.items():
        np.testing.assert_allclose(weight, beside[name], atol=1e-6, err_msg=name)
    assert rankers.train(config, [*calm[:2], added])[2] == facts  # all stand whole: nothing is trained
    assert [written(cell) for cell in calm[:2]] == before
    out = StageDir(f"{tmp_path}/rank").make()
    rankers.rank(config, by_name(again(folder), [*calm[:2], added]), out)
    found = out.read_json("metrics.json")
    assert found["models"]["din/hgit"]["test"]["seeds"] == [expected[1]["test"], facts["test"]]
    gain = found["gain"]["din/hgit"]["test"]["mean"]["auc"]
    assert gain == pytest.approx(expected[1]["test"]["auc"] - expected[0]["test"]["auc"])
    curve = out.read_json("history.json")
    assert {"step", "din/origin/0/click", "din/hgit/0/click", "din/hgit/1/click"} == set(curve[0])


def test_without_what_they_need_cells_and_tables_say_so_and_end(tmp_path: Path) -> None:
    config = load_config(None, SETTINGS)
    silent = inputs(tmp_path / "silent", events=False)
    timeless = inputs(tmp_path / "timeless", times=False)
    for name, train, tabulate, given, reason in (
        ("rank/din/hgit/0", rankers.train, rankers.rank, silent, "no interactions"),
        ("generate/tiger/hgit/0", generators.train, generators.generate, silent, "no interactions"),
        ("generate/tiger/hgit/1", generators.train, generators.generate, timeless, "no time stamps"),
    ):
        made = cells(given, tmp_path, name)
        out = StageDir(f"{tmp_path}/table/{name}").make()
        for told, folder in ((train(config, made)[0], made[0].out), (tabulate(config, by_name(given, made), out), out)):
            assert reason in told["skipped"]
            assert folder.read_json("metrics.json") == told
            assert folder.read_json("history.json") == []


def test_a_catalogue_without_coordinates_has_its_table_too(tmp_path: Path) -> None:
    out = StageDir(f"{tmp_path}/table").make()
    assert "popularity/auc" in rankers.rank(load_config(None, SETTINGS), inputs(tmp_path, places=False), out)
    baselines = out.read_json("metrics.json")["baselines"]
    assert baselines.keys() == {"trees", "trees with SIDs", "popularity", "repeat"}


def test_sids_that_do_not_fit_the_catalogue_are_refused(tmp_path: Path) -> None:
    given = inputs(tmp_path)
    sids = given["tokenise"].read_table("sids.parquet")
    given["tokenise"].write_table("sids.parquet", sids.slice(1))
    with pytest.raises(StorageError, match="39 SIDs"):
        rankers.train(load_config(None, SETTINGS), cells(given, tmp_path, "rank/din/hgit/0"))
