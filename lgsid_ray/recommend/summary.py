"""From the cells of a study to its table: figures over the seeds of each model and arm."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lgsid_ray.execution.stage import Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.log import SPLITS, TEST, VALID
from lgsid_ray.recommend.training import HISTORY, METRICS

ORIGIN = "origin"
"""The arm without SIDs; every other is named by its tokenizer."""
JUDGED = [SPLITS[split] for split in (VALID, TEST)]
Figures = dict[str, float | None]
Runs = dict[int, dict[str, Any]]
"""What each seed's cell measured."""


def read_runs(inputs: Inputs) -> dict[str, Runs]:
    """`model/arm` → its runs, of the cells among a stage's inputs."""
    cells = folders(inputs).items()
    return {arm: {seed: folder.read_json(METRICS) for seed, folder in seeds.items()} for arm, seeds in cells}


def folders(inputs: Inputs) -> dict[str, dict[int, StageDir]]:
    """`model/arm` → the folder of each seed's cell, among a stage's inputs: `family/model/arm/seed`."""
    found: dict[str, dict[int, StageDir]] = {}
    for name, folder in _cells(inputs).items():
        arm, _, seed = name.rpartition("/")
        found.setdefault(arm, {})[int(seed)] = folder
    return found


def over_seeds(arms: dict[str, Runs], summarise: Callable[[list[Any]], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`model/arm` → split → the summary of its runs, and the runs themselves as `seeds`."""
    found: dict[str, dict[str, Any]] = {}
    for arm, runs in arms.items():
        for split in JUDGED:
            each = [run[split] for run in runs.values()]
            found.setdefault(arm, {})[split] = summarise(each) | {"seeds": each}
    return found


def best_epochs(arms: dict[str, Runs]) -> dict[str, int]:
    """`model/arm/seed` → the epoch whose weights were judged."""
    return {f"{arm}/{seed}": run["best_epoch"] for arm, runs in arms.items() for seed, run in runs.items()}


def read_history(inputs: Inputs) -> list[dict[str, Any]]:
    """The cells' curves side by side, figures named `model/arm/seed/figure`."""
    points: dict[tuple[int, int], dict[str, Any]] = {}
    for name, folder in _cells(inputs).items():
        for row in folder.read_json(HISTORY):
            when = {key: row.pop(key) for key in ("step", "epoch") if key in row}
            point = points.setdefault((when["step"], when.get("epoch", 0)), when)
            point |= {f"{name}/{figure}": value for figure, value in row.items()}
    return [points[key] for key in sorted(points)]


def spread(runs: Sequence[Figures]) -> dict[str, Figures]:
    """Mean and standard deviation (over n) of each figure over the seeds; None where any is undefined."""
    summary: dict[str, Figures] = {"mean": {}, "std": {}}
    for name in runs[0]:
        values = [run[name] for run in runs]
        known = [value for value in values if value is not None]
        whole = len(known) == len(values)
        summary["mean"][name] = float(np.mean(known)) if whole else None
        summary["std"][name] = float(np.std(known)) if whole else None
    return summary


def _cells(inputs: Inputs) -> Inputs:
    return {name.partition("/")[2]: folder for name, folder in inputs.items() if "/" in name}
