"""The runs of a study: one per arm and seed, in one run directory, so that they share every stage they agree on.

A run is resumed by its stages' fingerprints: give the same study again after a kill, and only what is missing is
computed. Runs that are computed at once and want the same stage wait for the first of them to finish it.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from lgsid_ray.config import RunConfig, Tree, assign, parse
from lgsid_ray.errors import ConfigError
from lgsid_ray.execution.failure import explain
from lgsid_ray.execution.run import Run
from lgsid_ray.pipeline import execute, standing
from lgsid_ray.studies.measures import measure

RUN_CPUS = 4
"""CPUs that a run keeps busy: two workers, and Ray Data beside them."""
Log = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """One run of a study."""

    arm: str
    seed: int
    config: RunConfig

    @property
    def label(self) -> str:
        """How the log names it."""
        return f"{self.arm}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What a run came to: its measures, or why there are none."""

    setting: Setting
    measures: Mapping[str, float | None]
    error: str | None = None


def settings(
    base: Tree, arms: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], origin: str, resplit: bool = False
) -> list[Setting]:
    """Every arm with every seed; `origin` is how messages name the study.

    With `resplit` a seed is the catalogue's, too: what is held out differs from seed to seed.

    Raises:
        ConfigError: an arm's overrides are refused; arm and key are named. A seed stands twice.
    """
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ConfigError(f"{origin}: seed {twice[0]} stands twice in {list(seeds)}: the same run would count as two")
    found = []
    for arm, overrides in arms.items():
        for seed in seeds:
            tree = copy.deepcopy(base)
            drawn = {"seed": seed, "catalogue.seed": seed} if resplit else {"seed": seed}
            for key, value in {**overrides, **drawn}.items():
                _put(tree, key, value)
            found.append(Setting(arm, seed, parse(tree, f"{origin}, arm {arm!r}")))
    return found


def _put(tree: Tree, key: str, value: Any) -> None:
    """Put a value in; a mapping changes what it names and leaves the rest of its section."""
    if isinstance(value, dict):
        for inner, one in value.items():
            _put(tree, f"{key}.{inner}", one)
    else:
        assign(tree, key, copy.deepcopy(value))


def run_all(
    chosen: Sequence[Setting],
    out: str,
    until: str | Sequence[str],
    measures: Mapping[str, str],
    concurrent: int | None,
    log: Log,
) -> list[Outcome]:
    """Run every setting up to stage `until` and read its measures; a run that fails leaves the others alone.

    Args:
        measures: column → `stage:path`, see measures.py.
        concurrent: runs at once; None: as many as the cluster's CPUs hold.
    """
    at_once = concurrent or max(1, int(ray.cluster_resources().get("CPU", 1)) // RUN_CPUS)
    # A driver waits for its stages' own workers, so it claims no CPU.
    task: Any = ray.remote(run_one).options(num_cpus=0, max_retries=0)
    waiting, going, done = list(chosen), dict[Any, Setting](), dict[str, Outcome]()
    while waiting or going:
        while waiting and len(going) < at_once:
            setting = waiting.pop(0)
            log(f"{setting.label}: starts")
            if at_once == 1:
                done[setting.label] = _outcome(setting, partial(run_one, setting, out, until, measures, log), log)
            else:
                going[task.remote(setting, out, until, measures, _silent)] = setting
        if going:
            (ended,), _ = ray.wait(list(going))
            setting = going.pop(ended)
            done[setting.label] = _outcome(setting, partial(ray.get, ended), log)
    return [done[setting.label] for setting in chosen]


def run_one(
    setting: Setting, out: str, until: str | Sequence[str], measures: Mapping[str, str], log: Log
) -> dict[str, float | None]:
    """Run a setting up to stage `until` and read its measures."""
    run = Run(out, setting.config, log=log)
    execute(run, until)
    return read_measures(run, until, measures)


def read_measures(run: Run, until: str | Sequence[str], measures: Mapping[str, str]) -> dict[str, float | None]:
    """The measures of a finished run; None where its plan has no such stage, or the stage no such figure."""
    metrics: dict[str, Any] = {}
    for stage, _ in standing(run, until):
        folder = run.directory(stage.name)
        if not stage.cell and folder.exists("metrics.json"):
            metrics[stage.family] = folder.read_json("metrics.json")
    names = {"tokenizer": run.config.tokenizer.label, "space": run.config.space}
    return {column: measure(metrics, where.format(**names)) for column, where in measures.items()}


def _outcome(setting: Setting, finish: Callable[[], Any], log: Log) -> Outcome:
    """The measures that `finish` returns, or why it fails; whatever that is, the other runs go on."""
    try:
        outcome = Outcome(setting, finish())
    except Exception as error:
        outcome = Outcome(setting, {}, str(explain(error) or f"internal error: {type(error).__name__}: {error}"))
    log(f"{setting.label}: {f'failed: {outcome.error}' if outcome.error else 'done'}")
    return outcome


def _silent(line: str) -> None:
    """Lines of runs that go on at once would be told apart by nobody."""
