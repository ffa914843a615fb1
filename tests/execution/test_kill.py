"""SIGKILL or SIGTERM in one stage after another, then the same command again: nothing is lost, the result is equal.

Of stages that work alike one stands for all: what trains does so by one harness (tests/execution/test_train.py), and
what takes a moment is computed anew (tests/execution/test_run.py).
"""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lgsid_ray.config import load
from lgsid_ray.execution.run import Run
from lgsid_ray.pipeline import standing

pytestmark = pytest.mark.ray

TINY = {
    "catalogue.source.items": 240,
    "catalogue.source.users": 60,
    "catalogue.source.events_per_user": 12,
    "catalogue.source.towns": 8,
    "encoder.rows": 60,
    "tokenizer.embeddings": "origin",
    "tokenizer.sizes": "[6, 4, 4]",
    "tokenizer.steps": 20,
    "evaluate.ks": "[5]",
    "evaluate.content": False,
    "rank.enabled": False,
    "generate.epochs": 8,
    "generate.batch_size": 32,
    "generate.trainer.checkpoint_steps": 10,
    "report.points": 100,
}
OVERRIDES = [f"{key}={value}" for key, value in TINY.items()]
# Cells of one function are computed together, the first of them holds what training continues from.
STAGES = ("catalogue", "embed", "tokenise/hgit", "generate/pointer/hgit/0")
# What a stage has written when it is killed in the middle; the others are killed a moment after they start.
MIDDLE = {"embed": "embeddings/*.parquet", "generate/pointer/hgit/0": "work/train/checkpoint_*/*"}


def start(out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lgsid_ray.cli", "run", "--out", str(out), "--debug"]
    for override in OVERRIDES:
        command += ["--set", override]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def finish(out: Path) -> list[str]:
    with start(out) as process:
        try:
            output, _ = process.communicate(timeout=1200)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, output[-4000:]
    return output.splitlines()


def kill_in(stage: str, out: Path, seconds: float, how: signal.Signals) -> list[str]:
    """Run until `stage` is under way, kill the driver; returns its output."""
    process = start(out)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.match(rf"{stage}: (starts|continues)", line):
            _wait(process, out / stage, MIDDLE.get(stage), seconds)
            process.send_signal(how)
            break
    if how == signal.SIGTERM:
        lines += process.stdout.readlines()
        assert lines[-1].startswith("stopped by SIGTERM; give the same command again"), "".join(lines[-30:])
        assert "*** SIGTERM" not in "".join(lines)
        if stage in MIDDLE:
            assert not any(line.startswith(f"{stage}: done") for line in lines), "it waited for the end of the stage"
    process.stdout.close()
    process.wait()
    assert process.returncode == (143 if how == signal.SIGTERM else -how), "".join(lines[-30:])
    return lines


def _wait(process: subprocess.Popen[str], folder: Path, middle: str | None, seconds: float) -> None:
    if middle is None:
        time.sleep(seconds)
        return
    while not list(folder.glob(f"*/{middle}")):
        assert process.poll() is None
        time.sleep(0.05)


def results(out: Path) -> dict[str, object]:
    """What a run ends in, free of times and paths."""
    run = Run(str(out), load(None, OVERRIDES))
    assert all(manifest for _, manifest in standing(run))
    return {
        "sids": run.directory("tokenise/hgit").read_table("sids.parquet").to_pylist(),
        "embeddings": run.directory("embed").read_table("embeddings").to_pylist(),
        "evaluate": run.directory("evaluate").read_json("metrics.json"),
        "generate": run.directory("generate").read_json("metrics.json"),
    }


@pytest.mark.timeout(3600)
def test_killed_in_one_stage_after_another(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as beside:
        undisturbed = beside.submit(finish, tmp_path / "undisturbed")
        killed_again_and_again(tmp_path / "run")
        undisturbed.result()
    assert results(tmp_path / "run") == results(tmp_path / "undisturbed")


def killed_again_and_again(out: Path) -> None:
    for number, stage in enumerate(STAGES):
        how = signal.SIGTERM if number % 2 else signal.SIGKILL
        output = kill_in(stage, out, seconds=0.1 + 0.2 * (number % 3), how=how)
        for earlier in STAGES[: max(0, number - 1)]:
            assert any(line.startswith(f"{earlier}: up to date") for line in output), f"{earlier} was not skipped"
        if number:
            # A quick stage may have finished before the kill came.
            again = re.compile(rf"{STAGES[number - 1]}: (continues|up to date)")
            assert any(again.match(line) for line in output)
    output = finish(out)
    assert sum("up to date" in line for line in output) >= len(STAGES) - 1
