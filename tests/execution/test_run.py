"""The run directory: skip, recompute, resume, atomic publish, locks, and what a corrupt file leads to."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lgsid_ray.config import RunConfig, load
from lgsid_ray.config.sampling import SamplingConfig
from lgsid_ray.errors import StorageError
from lgsid_ray.execution import run as run_module
from lgsid_ray.execution.lease import Pace, hold
from lgsid_ray.execution.run import Run
from lgsid_ray.execution.stage import Cell, Facts, Inputs, Stage
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.pipeline import standing

FUNCTIONS: dict[str, Any] = {}
"""Stages name their functions; these are found here instead of in a room."""


@pytest.fixture(autouse=True)
def _named_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    FUNCTIONS.clear()
    real, code = run_module.function_of, run_module.code_of
    monkeypatch.setattr(run_module, "function_of", lambda name: FUNCTIONS.get(name) or real(name))
    monkeypatch.setattr(run_module, "code_of", lambda name, kind: {} if name in FUNCTIONS else code(name, kind))
    monkeypatch.setattr(run_module, "hold", partial(hold, pace=Pace(settle_s=0)))


def named(function: Callable[..., Any]) -> str:
    """A reference to `function` as a stage gives it."""
    FUNCTIONS[function.__name__] = function
    return function.__name__


class Recorder:
    """Two stages that count how often they run."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.first = Stage("first", named(self._first), ("sampling",))
        self.second = Stage("second", named(self._second), ("align",), {"first": "first"})

    def _first(self, config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
        self.calls.append("first")
        out.write_json("value.json", config.sampling.negatives)
        return {"negatives": config.sampling.negatives}

    def _second(self, config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
        self.calls.append("second")
        out.write_json("value.json", inputs["first"].read_json("value.json") * 2)
        return {}

    def run(self, uri: str, *overrides: str) -> Run:
        run = Run(uri, load(None, list(overrides)), log=lambda line: None)
        run.execute(self.first)
        run.execute(self.second)
        return run


@pytest.fixture(params=["local", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "run") if request.param == "local" else f"memory://{tmp_path.name}"


def test_second_time_is_skipped(uri: str) -> None:
    recorder = Recorder()
    recorder.run(uri)
    run = recorder.run(uri)
    assert recorder.calls == ["first", "second"]
    assert run.directory("second").read_json("value.json") == 30


def test_a_change_recomputes_what_follows_and_only_that(uri: str) -> None:
    recorder = Recorder()
    recorder.run(uri)
    recorder.run(uri, "align.steps=7")
    assert recorder.calls == ["first", "second", "second"]
    recorder.run(uri, "sampling.negatives=4")
    assert recorder.calls == ["first", "second", "second", "first", "second"]
    recorder.run(uri)  # the first result still stands
    assert len(recorder.calls) == 5


def test_what_only_an_unfinished_stage_needs_goes_when_it_is_finished(uri: str) -> None:
    def works(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
        out.write_json("work/step.json", 1)
        out.write_json("value.json", 2)
        return {}

    run = Run(uri, load(None), log=lambda line: None)
    run.execute(Stage("first", named(works), ("sampling",)))
    assert run.directory("first").members("") >= {"value.json", "manifest.json"}
    assert not run.directory("first").exists("work")


def test_resources_change_no_fingerprint_and_everything_else_does(uri: str) -> None:
    stage = Stage("first", "encoder.stage:embed", ("align", "encoder", "tokenizer"))

    def fingerprint(*overrides: str) -> str:
        run = Run(uri, load(None, list(overrides)), log=lambda line: None)
        run.identity(stage)
        return run.fingerprint("first")

    base = fingerprint()
    for same in ("encoder.actors=3", "tokenizer.kmeans.actors=3", "align.trainer.checkpoint_steps=7"):
        assert fingerprint(same) == base, same
    for other in ("encoder.batch_size=3", "align.trainer.workers=1", "tokenizer.kmeans.iterations=3", "seed=1"):
        assert fingerprint(other) != base, other


def test_exchanged_weights_are_noticed(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    found = []
    for content in (b"one", b"two", b"one"):
        (model / "model.safetensors").write_bytes(content)
        run = Run(str(tmp_path / "run"), load(None, [f"encoder.model={model}"]), log=lambda line: None)
        standing(run, "embed")
        found.append(run.fingerprint("embed"))
    assert found[0] == found[2] != found[1]


def test_seed_counts_only_for_seeded_stages(uri: str) -> None:
    recorder = Recorder()
    unseeded = replace(recorder.first, seeded=False)
    for seed in ("seed=0", "seed=1"):
        run = Run(uri, load(None, [seed]), log=lambda line: None)
        run.execute(unseeded)
        run.execute(recorder.second)
    assert recorder.calls == ["first", "second", "second"]


def test_what_a_stage_does_not_declare_is_refused(tmp_path: Path) -> None:
    def greedy(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
        return {"steps": config.align.steps}

    def lucky(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
        return {"seed": config.seed}

    run = Run(str(tmp_path), load(None), log=lambda line: None)
    with pytest.raises(AttributeError, match="align"):
        run.execute(Stage("greedy", named(greedy), ("sampling",)))
    assert run.execute(Stage("lucky", named(lucky), ())).facts == {"seed": 0}
    with pytest.raises(AttributeError, match="seed"):
        run.execute(Stage("unseeded", named(lucky), (), seeded=False))


def test_the_start_line_says_what_has_changed(uri: str) -> None:
    recorder, lines = Recorder(), list[str]()

    def run(*overrides: str) -> str:
        lines.clear()
        one = Run(uri, load(None, list(overrides)), log=lines.append)
        one.execute(recorder.first)
        one.execute(recorder.second)
        return next(line for line in lines if line.startswith("second: "))

    assert "since" not in run()
    first = Run(uri, load(None), log=lines.append)
    first.identity(recorder.first)
    first.identity(recorder.second)
    assert f"since {first.fingerprint('second')}: align.steps 200 → 7)" in run("align.steps=7")
    assert "seed 0 → 1" in run("align.steps=7", "seed=1")
    assert "result of first" in run("align.steps=7", "seed=1", "sampling.negatives=4")
    assert run("align.steps=7").endswith("skipped")


def test_scratch_that_a_kill_has_left_is_removed_by_the_next_call(uri: str) -> None:
    recorder = Recorder()
    run = recorder.run(uri)
    run.directory("first").write_json("work/step.json", 1)
    recorder.run(uri)
    assert recorder.calls == ["first", "second"]
    assert not run.directory("first").exists("work")


def test_cells_are_computed_together_and_only_those_that_are_missing(uri: str) -> None:
    asked: list[list[str]] = []

    def train(config: RunConfig, cells: Sequence[Cell]) -> list[Facts]:
        asked.append([cell.name for cell in cells])
        for cell in cells:
            cell.out.write_json("value.json", [cell.settings.negatives, cell.inputs["first"].read_json("value.json")])
        return [{"own": cell.settings.negatives} for cell in cells]

    recorder = Recorder()
    run = recorder.run(uri)
    cells = [
        Stage(f"cell/{count}", named(train), ("align",), {"first": "first"}, cell=SamplingConfig(negatives=count))
        for count in (3, 4, 5)
    ]
    assert [manifest.facts for manifest in run.execute_together(cells[:2])] == [{"own": 3}, {"own": 4}]
    run.execute_together(cells)
    assert asked == [["cell/3", "cell/4"], ["cell/5"]]
    assert run.directory("cell/4").read_json("value.json") == [4, 15]
    assert len({run.fingerprint(cell.name) for cell in cells}) == 3


def test_failed_stage_is_not_taken_for_whole(uri: str) -> None:
    def fails(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
        out.write_json("half.json", 1)
        raise ValueError("boom")

    run = Run(uri, load(None), log=lambda line: None)
    stage = Stage("first", named(fails), ("sampling",))
    with pytest.raises(ValueError, match="boom"):
        run.execute(stage)
    assert run.manifest("first") is None
    assert run.directory("first").exists("half.json")  # kept, so that the stage may continue from it


@pytest.mark.parametrize("content", [b"{ torn", b'{"stage": "first"}', b"\xff\xfe"])
def test_corrupt_manifest_is_named(uri: str, content: bytes) -> None:
    recorder = Recorder()
    run = recorder.run(uri)
    with run.directory("first").write("manifest.json") as file:
        file.write(content)
    with pytest.raises(StorageError, match=r"manifest\.json is corrupt.*delete"):
        recorder.run(uri)


def test_second_driver_waits_and_then_skips(tmp_path: Path) -> None:
    recorder = Recorder()
    entered, release = threading.Event(), threading.Event()

    def slow(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
        entered.set()
        release.wait(30)
        return recorder._first(config, inputs, out)

    stage = Stage("first", named(slow), ("sampling",))
    lines: list[str] = []
    one = threading.Thread(target=lambda: Run(str(tmp_path), load(None), log=lines.append).execute(stage))
    two = threading.Thread(target=lambda: Run(str(tmp_path), load(None), log=lines.append).execute(stage))
    one.start()
    assert entered.wait(30)
    two.start()
    while not any("waiting" in line for line in lines):
        assert two.is_alive()
    release.set()
    one.join(30)
    two.join(30)
    assert recorder.calls == ["first"]
    assert any("skipped" in line for line in lines)


def test_write_is_all_or_nothing(uri: str) -> None:
    folder = StageDir(uri).make()

    def tear() -> None:
        with folder.write("table.bin") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        tear()
    assert not folder.exists("table.bin")
    assert folder.fs.ls(folder.root) == []


def test_tables_round_trip_in_part_order(uri: str) -> None:
    folder = StageDir(uri)
    for part in (1, 0, 10):
        folder.write_table(f"items/part-{part:05d}.parquet", pa.table({"value": [part]}))
    assert folder.read_table("items").column("value").to_pylist() == [0, 1, 10]
    with folder.write("items/part-00001.parquet") as file:
        file.write(b"PAR1 truncated")
    with pytest.raises(StorageError, match="part-00001"):
        folder.read_table("items")
    with pytest.raises(StorageError, match="absent"):
        folder.read_table("absent")


def test_manifest_records_the_run(uri: str) -> None:
    run = Recorder().run(uri, "seed=3")
    manifest = json.loads(run.directory("first").read("manifest.json"))
    assert manifest["seed"] == 3
    assert manifest["facts"] == {"negatives": 15}
    assert manifest["config"]["sampling"]["negatives"] == 15
    assert "max_anchors" in manifest["config"]["sampling"]
    assert manifest["peak_memory_mb"] > 1
    second = json.loads(run.directory("second").read("manifest.json"))
    assert second["inputs"] == {"first": manifest["fingerprint"]}
    assert second["fingerprint"] in run.directory("second").uri
