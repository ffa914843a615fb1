"""The search: killed and started again it keeps finished trials, shares stages, and ends with a front."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lgsid_ray.config import load, parse
from lgsid_ray.studies.search import apply, nearest_to_ideal, pareto_front

pytestmark = pytest.mark.ray

CONFIG = """
catalogue: {source: {kind: world, items: 240, users: 10, towns: 8, events_per_user: 5}}
encoder: {kind: random_projection, dimension: 16}
tokenizer: {sizes: [6, 4, 4], steps: 1}
evaluate: {content: false, ks: [5], clusters: 8}
rank: {enabled: false}
generate: {enabled: false}
tune: {trials: 3, first_level: [4, 5, 6, 8], later_levels: [3, 4, 5]}
"""


def start(config: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lgsid_ray.cli", "tune", "--config", str(config), "--out", str(out), "--debug"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finished(out: Path) -> int:
    """Trials of which every stage is done."""
    return len(list(out.glob("tokenise/*/*/manifest.json")))


def computed(out: Path) -> dict[Path, int]:
    """Finished stages, and when they were finished."""
    return {file: file.stat().st_mtime_ns for file in out.rglob("manifest.json")}


@pytest.mark.timeout(1800)
def test_killed_search_keeps_its_trials(tmp_path: Path) -> None:
    config, out = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(CONFIG, encoding="utf-8")
    first = start(config, out)
    deadline = time.monotonic() + 600
    while not finished(out):
        assert first.poll() is None, first.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = computed(out)
    second = start(config, out)
    output, _ = second.communicate(timeout=900)
    assert second.returncode == 0, output[-3000:]
    assert finished(out) == 3, "the same search proposes the same trials"
    assert not list(out.rglob("*.pkl")), "nothing pickled lies in a run directory"
    after = computed(out)
    assert {path: after[path] for path in before} == before, "what a finished trial has computed was computed again"
    (folder,) = [path.parent for path in out.glob("tune/*/trials.json")]
    trials = json.loads((folder / "trials.json").read_text())
    assert len(trials) == 3
    assert sum(trial["best"] for trial in trials) == 1
    best = load(str(folder / "best.yaml"))
    chosen = next(trial["parameters"] for trial in trials if trial["best"])
    assert best.tokenizer.sizes == [chosen["first_level"], chosen["later_levels"], chosen["later_levels"]]
    assert "Search: all trials" in (folder / "pareto.html").read_text()
    assert len(list(out.glob("catalogue/*"))) == 1, "trials must share what they do not search"
    assert len(list(out.glob("embed/*"))) == 1


def test_pareto_front_against_a_loop() -> None:
    costs = np.random.default_rng(0).integers(0, 5, size=(60, 3)).astype(float)
    expected = [not any((other <= row).all() and (other < row).any() for other in costs) for row in costs]
    assert pareto_front(costs).tolist() == expected


def test_nearest_to_ideal_lies_on_the_front() -> None:
    costs = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.2], [0.9, 0.9]])
    front = pareto_front(costs)
    assert front.tolist() == [True, True, True, False]
    assert nearest_to_ideal(costs, front) == 2


@pytest.mark.parametrize("parameters", [{"lambda": 0.5}, {"first_level": 9, "later_levels": 7}])
def test_apply_changes_only_what_is_searched(parameters: dict[str, float]) -> None:
    config = load(None)
    changed = parse(apply({}, parameters), "the trial")
    assert changed != config
    assert changed.model_copy(update={"align": config.align, "tokenizer": config.tokenizer}) == config
