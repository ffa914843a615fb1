"""The stage of counting rules: what SIDs are worth to rankers and generators, in seconds and without training."""

from collections.abc import Callable
from typing import Any

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Sids
from lgsid_ray.config import RunConfig
from lgsid_ray.errors import InputError
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.counts.rules import ClickRule, next_items
from lgsid_ray.recommend.generators.experiment import KS, NEXT, Generation
from lgsid_ray.recommend.log import SPLITS, TEST, VALID, Unusable
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
        told["hit@10"] = found["generate"]["test"][NEXT]["hit@10"]
    return told


def _rank(config: RunConfig, catalogue: StageDir, tokenise: StageDir) -> dict[str, Any]:
    ranking = Ranking.read(config.rank, catalogue, config.seed)
    rule = ClickRule(ranking.samples, _tokens(tokenise, ranking.items), config.rank.history)
    return {
        SPLITS[split]: ranking.figures(split, rule.probabilities(ranking.samples.of(split)), calibrated=True)
        for split in (VALID, TEST)
    }


def _generate(config: RunConfig, catalogue: StageDir, tokenise: StageDir) -> dict[str, Any]:
    generation = Generation.read(config.generate, catalogue, config.seed)
    sequences, tokens = generation.sequences, _tokens(tokenise, generation.items)
    found = {}
    for split in (VALID, TEST):
        queries = generation.queries(split, NEXT)
        found[SPLITS[split]] = {NEXT: generation.figures(queries, next_items(sequences, queries, tokens, max(KS)))}
    return found


def _tokens(tokenise: StageDir, items: int) -> Int64:
    return Sids(tokenise).tokens(items)


JUDGES: dict[str, Judge] = {"rank": _rank, "generate": _generate}
