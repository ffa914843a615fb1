"""A study from its file to its table."""

from collections.abc import Sequence

from lgsid_ray.config import Tree
from lgsid_ray.config.study import StudyConfig
from lgsid_ray.errors import ConfigError
from lgsid_ray.execution.storage import StageDir, resolve
from lgsid_ray.pipeline import STAGES
from lgsid_ray.studies.runs import Log, run_all, settings
from lgsid_ray.studies.table import Summary, summarise, write


def run_study(study: StudyConfig, base: Tree, out: str, log: Log) -> tuple[StageDir, Summary]:
    """Run every arm with every seed and write the table to RUN/studies/<name>.

    Raises:
        ConfigError: an arm is refused, or a measure names no stage.
    """
    _require_stages([study.until, *(where.partition(":")[0] for where in study.measures.values())])
    chosen = settings(base, study.arms, study.seeds, f"study {study.name}")
    outcomes = run_all(chosen, out, study.until, study.measures, study.concurrent, log)
    summary = summarise(study.title or study.name, list(study.measures), outcomes, study.beside)
    folder = StageDir(resolve(out)).child(f"studies/{study.name}").make()
    folder.write_json("study.json", study.model_dump(mode="json"))
    write(folder, summary, outcomes)
    return folder, summary


def _require_stages(names: Sequence[str]) -> None:
    for name in names:
        if name.partition("/")[0] not in STAGES:
            raise ConfigError(f"study: {name!r} is no stage; they are {', '.join(STAGES)}")
