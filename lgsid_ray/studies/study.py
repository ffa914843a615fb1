"""A study from its file to its table."""

from collections.abc import Sequence

from lgsid_ray.config import Tree
from lgsid_ray.config.study import StudyConfig
from lgsid_ray.errors import ConfigError
from lgsid_ray.execution.storage import StageDir, resolve
from lgsid_ray.pipeline import STAGES, needed
from lgsid_ray.studies.runs import Log, Outcome, Setting, run_all, settings
from lgsid_ray.studies.table import Summary, summarise, write


def run_study(study: StudyConfig, base: Tree, out: str, log: Log) -> tuple[StageDir, Summary]:
    """Run every arm with every seed and write the table to RUN/studies/<name>.

    Raises:
        ConfigError: an arm is refused, or a measure names a stage that is none, or that no arm runs.
    """
    until = [study.until] if isinstance(study.until, str) else study.until
    _require_stages([*until, *(where.partition(":")[0] for where in study.measures.values())])
    chosen = settings(base, study.arms, study.seeds, f"study {study.name}", study.resplit)
    _require_reach(study, chosen)
    outcomes = run_all(chosen, out, study.until, study.measures, study.concurrent, log)
    summary = summarise(study.title or study.name, list(study.measures), outcomes, study.beside, study.agreement)
    for column in _nowhere(study, outcomes):
        summary.failed[f"column {column}"] = f"no run has a figure at {study.measures[column]}"
    folder = StageDir(resolve(out)).child(f"studies/{study.name}").make()
    folder.write_json("study.json", study.model_dump(mode="json"))
    write(folder, summary, outcomes)
    return folder, summary


def _require_reach(study: StudyConfig, chosen: Sequence[Setting]) -> None:
    """That some arm runs every stage whose figures are wanted."""
    run = {stage.family for setting in chosen for stage in needed(setting.config, study.until)}
    for column, where in study.measures.items():
        stage = where.partition(":")[0]
        if stage not in run:
            raise ConfigError(
                f"study: measure {column!r} is of stage {stage}, which no arm runs up to {study.until}; set `until` to "
                "a later stage, such as report, or to several"
            )


def _nowhere(study: StudyConfig, outcomes: Sequence[Outcome]) -> list[str]:
    """Columns for which none of the runs that ended well has a figure."""
    well = [outcome.measures for outcome in outcomes if not outcome.error]
    return [column for column in study.measures if well and all(measures[column] is None for measures in well)]


def _require_stages(names: Sequence[str]) -> None:
    for name in names:
        if name.partition("/")[0] not in STAGES:
            raise ConfigError(f"study: {name!r} is no stage; they are {', '.join(STAGES)}")
