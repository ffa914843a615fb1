"""The command `score`: how likely users are to take items, Parquet to Parquet."""

from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from lgsid_ray.artifacts import Quarantine, Scores
from lgsid_ray.cli.options import latest, tell
from lgsid_ray.cli.trained import cell_of, trained
from lgsid_ray.config.recommend import RankCell, RankConfig
from lgsid_ray.errors import InputError
from lgsid_ray.execution.session import ray_session
from lgsid_ray.execution.storage import StageDir, resolve
from lgsid_ray.recommend.rankers.scores import Asked, groups, write_scores


def score_pairs(asked: Asked, pairs: str, to: str, actors: int, ray: Any) -> None:
    """Write the scores of the pairs of a Parquet file, a folder of them or a pattern into the folder `to`."""
    parts = groups(_files(pairs))
    out = StageDir(resolve(to))
    total = sum(part.rows for part in parts)
    with ray_session(ray), Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("  pairs", total=total)
        for done in write_scores(asked, parts, out, actors):
            progress.advance(task, done)
    scores, left = Scores(out), Quarantine(out)
    if not scores.exists():
        tell("no pairs: nothing written")
        return
    strangers = sum(
        int(np.sum(~part.column("known").to_numpy(zero_copy_only=False))) for part in scores.scan(["known"])
    )
    tell(f"{scores.count():,} of {total:,} pairs by {asked.cell.name}: {scores.path}")
    if strangers:
        tell(f"{strangers:,} of them are of users that the log does not know: scored with an empty history")
    if left.exists():
        tell(f"{left.count():,} pairs cannot be scored; see {left.path}")


def asked_of(out: str, model: str | None, tokenizer: str | None, seed: int) -> Asked:
    """The latest trained ranker of a run directory; without a tokenizer's name that of the latest run's.

    Raises:
        ConfigError: it has none of that name. StorageError: it has none at all.
    """
    run = latest(out)
    models = [model] if model else [one.kind for one in run.config.rank.models]
    found = trained(run, "rank", models, [tokenizer or run.config.tokenizer.label], seed)
    cell = cell_of(run, found, RankCell.model_validate(found.cell))
    return Asked(cell, RankConfig.model_validate(found.config["rank"]), found.seed or 0)


def _files(pairs: str) -> list[str]:
    if Path(pairs).is_dir():
        pairs = str(Path(pairs) / "*.parquet")
    found = sorted(glob(pairs))
    if not found:
        raise InputError(f"{pairs}: there is no such file")
    return [str(Path(file).resolve()) for file in found]
