"""The run directory: skip, recompute, resume, atomic publish, locks, and what a corrupt file leads to."""

import json
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from lgsid_ray.config import RunConfig, load
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.run import Facts, Inputs, Run, Stage
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.pipeline import plan


class Recorder:
    """Two stages that count how often they run."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.first = Stage("first", self._first, ("sampling",))
        self.second = Stage("second", self._second, ("align",), ("first",))

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
    run.execute(Stage("first", works, ("sampling",)))
    assert run.directory("first").members("") >= {"value.json", "manifest.json"}
    assert not run.directory("first").exists("work")


def test_resources_change_no_fingerprint_and_everything_else_does(uri: str) -> None:
    stage = Stage("first", lambda config, inputs, out: {}, ("align", "encoder", "tokenizer"))

    def fingerprint(*overrides: str) -> str:
        return Run(uri, load(None, list(overrides)), log=lambda line: None).fingerprint(stage)

    base = fingerprint()
    for same in ("encoder.actors=3", "tokenizer.kmeans.actors=3", "align.trainer.checkpoint_steps=7"):
        assert fingerprint(same) == base, same
    for other in ("encoder.batch_size=3", "align.trainer.workers=1", "tokenizer.kmeans.iterations=3", "seed=1"):
        assert fingerprint(other) != base, other


def test_exchanged_weights_are_noticed(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    stage = next(stage for stage in plan(load(None)) if stage.name == "embed")
    first = next(stage for stage in plan(load(None)) if stage.name == "catalogue")
    found = []
    for content in (b"one", b"two", b"one"):
        (model / "model.safetensors").write_bytes(content)
        run = Run(str(tmp_path / "run"), load(None, [f"encoder.model={model}"]), log=lambda line: None)
        run.fingerprint(first)
        found.append(run.fingerprint(stage))
    assert found[0] == found[2] != found[1]


def test_seed_counts_only_for_seeded_stages(uri: str) -> None:
    recorder = Recorder()
    unseeded = Stage("first", recorder._first, ("sampling",), seeded=False)
    for seed in ("seed=0", "seed=1"):
        run = Run(uri, load(None, [seed]), log=lambda line: None)
        run.execute(unseeded)
        run.execute(recorder.second)
    assert recorder.calls == ["first", "second", "second"]


def test_undeclared_section_is_refused(tmp_path: Path) -> None:
    stage = Stage("greedy", lambda config, inputs, out: {"steps": config.align.steps}, ("sampling",))
    with pytest.raises(AttributeError, match="align"):
        Run(str(tmp_path), load(None), log=lambda line: None).execute(stage)


def test_failed_stage_is_not_taken_for_whole(uri: str) -> None:
    def fails(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
        out.write_json("half.json", 1)
        raise ValueError("boom")

    run = Run(uri, load(None), log=lambda line: None)
    stage = Stage("first", fails, ("sampling",))
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

    stage = Stage("first", slow, ("sampling",))
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
    assert manifest["peak_memory_mb"] > 1
    second = json.loads(run.directory("second").read("manifest.json"))
    assert second["inputs"] == {"first": manifest["fingerprint"]}
    assert second["fingerprint"] in run.directory("second").uri
