"""The trained models of a run directory, found by the names that a command is given."""

from collections.abc import Sequence

from lgsid_ray.config.recommend import GenerateCell, RankCell
from lgsid_ray.errors import ConfigError, StorageError
from lgsid_ray.execution.run import Manifest, Run, results
from lgsid_ray.execution.stage import Cell

WORDS = {"rank": "ranker", "generate": "generator"}


def trained(run: Run, family: str, models: Sequence[str], arms: Sequence[str], seed: int) -> Manifest:
    """The latest result among the cells `family`/model/arm/seed.

    Raises:
        ConfigError: there is none of those names. StorageError: there is none at all.
    """
    home, everything = run.home, list[Manifest]()
    for kind in sorted(home.members(family)):
        for arm in sorted(home.child(family).members(kind)):
            for number in sorted(home.child(f"{family}/{kind}").members(arm)):
                everything += results(home, f"{family}/{kind}/{arm}/{number}")
    everything = [one for one in everything if one.cell is not None]
    if not everything:
        raise StorageError(f"{home.root} has no trained {WORDS[family]}; run lgsid {family} with --out {run.uri}")
    wanted = {f"{family}/{kind}/{arm}/{seed}" for kind in models for arm in arms}
    fitting = [one for one in everything if one.stage in wanted]
    if not fitting:
        names = ", ".join(sorted({one.stage for one in everything}))
        raise ConfigError(
            f"{home.root} has no trained {' or '.join(models)} on {' or '.join(arms)} with seed {seed}; name one of "
            f"its own with --model, --tokenizer and --seed, as in {family}/MODEL/TOKENIZER/SEED: {names}"
        )
    return max(fitting, key=lambda one: one.finished)


def cell_of(run: Run, found: Manifest, settings: RankCell | GenerateCell) -> Cell:
    """The cell that a manifest is of, with the folders that it read."""
    inputs = {"catalogue": run.home.child(f"catalogue/{found.inputs['catalogue']}")}
    if "tokenise" in found.inputs:
        arm = found.stage.split("/")[2]
        inputs["tokenise"] = run.home.child(f"tokenise/{arm}/{found.inputs['tokenise']}")
    return Cell(found.stage, settings, inputs, run.home.child(f"{found.stage}/{found.fingerprint}"))
