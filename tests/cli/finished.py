"""A run directory as a finished run leaves it, with models as they are before their first step."""

from pathlib import Path
from typing import Any

from lgsid_ray.config import load
from lgsid_ray.config.recommend import GenerateConfig, RankConfig
from lgsid_ray.execution.run import Manifest
from lgsid_ray.execution.stage import Cell
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.checkpoint import write_weights
from tests.recommend.conftest import panel_of
from tests.recommend.test_recommend_stages import inputs

PRINTS = {"catalogue": "c" * 16, "tokenise": "a" * 16}


def run_directory(folder: Path) -> tuple[StageDir, dict[str, StageDir]]:
    """A run directory with a catalogue and SIDs, and those two."""
    home = StageDir(str(folder / "run")).make()
    home.write_json("config.json", load(None).model_dump(mode="json", by_alias=True))
    given = inputs(folder)
    for stage, place in (("catalogue", "catalogue"), ("tokenise", "tokenise/hgit")):
        Path(home.path(place)).mkdir(parents=True)
        Path(given[stage].root).rename(home.path(place, PRINTS[stage]))
        given[stage] = home.child(f"{place}/{PRINTS[stage]}")
    return home, given


def finish(
    home: StageDir,
    name: str,
    settings: Any,
    read: dict[str, StageDir],
    config: RankConfig | GenerateConfig,
    family: Any,
) -> None:
    """Finish the cell `name` of `settings` that has read `read`; `family`: the experiment that it is of."""
    cell = Cell(name, settings, read, home.child(f"{name}/{'b' * 16}").make())
    experiment = family.read(config, read["catalogue"], 0)
    member = panel_of(experiment, [cell]).members[name]
    write_weights(cell.out, member.state_dict(), experiment.label(cell))
    cell.out.write_json("metrics.json", experiment.judge(cell, member))
    told: dict[str, Any] = {"stage": name, "fingerprint": "b" * 16, "version": "0", "seed": 0}
    told |= {"config": {name.partition("/")[0]: config.identity()}, "cell": settings.identity(), "sources": []}
    told |= {"inputs": {role: PRINTS[role] for role in read}, "facts": {}, "seconds": 1.0, "peak_memory_mb": 1.0}
    manifest = Manifest.model_validate({**told, "code": {}, "finished": "2026-01-01T00:00:00+00:00"})
    cell.out.write_json("manifest.json", manifest.model_dump(mode="json"))
