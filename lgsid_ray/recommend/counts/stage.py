"""The stage of counting rules: what SIDs are worth to rankers and generators, in seconds and without training."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Sids
from lgsid_ray.config import RunConfig
from lgsid_ray.errors import InputError
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.counts.rules import affinity, next_items
from lgsid_ray.recommend.generators.experiment import KS, Generation
from lgsid_ray.recommend.log import SPLITS, TEST, TRAIN, VALID, Unusable
from lgsid_ray.recommend.rankers.experiment import Ranking

Judge = Callable[[RunConfig, StageDir, StageDir], dict[str, Any]]


def count(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Figures of the counting rules, on the samples that rankers and generators are judged by: `metrics.json`.

    What cannot be judged says why, under `skipped`.
    """
    found = {}
    for name, judge in JUDGES.items():
        try:
            found[name] = judge(config, inputs["catalogue"], inputs["tokenise"])
        except (Unusable, InputError) as reason:  # what stops a recommender's own stage need not stop this one
            found[name] = {"skipped": str(reason)}
    out.write_json("metrics.json", found)
    told: Facts = {}
    if "test" in found["rank"]:
        told["auc"] = found["rank"]["test"]["auc"]
    if "test" in found["generate"]:
        told["hit@10"] = found["generate"]["test"]["all"]["hit@10"]
    return told


def _rank(config: RunConfig, catalogue: StageDir, tokenise: StageDir) -> dict[str, Any]:
    ranking = Ranking.read(config.rank, catalogue, config.seed)
    samples, tokens = ranking.samples, _tokens(tokenise, ranking.items)
    train = samples.of(TRAIN)
    visits = np.bincount(samples.item[train], samples.label[train], minlength=ranking.items).astype(np.int64)
    found = {}
    for split in (VALID, TEST):
        rows = samples.of(split)
        score = affinity(samples.histories(rows, config.rank.history), samples.item[rows], tokens, visits)
        found[SPLITS[split]] = ranking.figures(split, score, calibrated=False)
    return found


def _generate(config: RunConfig, catalogue: StageDir, tokenise: StageDir) -> dict[str, Any]:
    generation = Generation.read(config.generate, catalogue, config.seed)
    sequences, tokens = generation.sequences, _tokens(tokenise, generation.items)
    return {
        SPLITS[split]: generation.figures(split, next_items(sequences, generation.targets(split), tokens, max(KS)))
        for split in (VALID, TEST)
    }


def _tokens(tokenise: StageDir, items: int) -> Int64:
    return Sids(tokenise).tokens(items)


JUDGES: dict[str, Judge] = {"rank": _rank, "generate": _generate}
