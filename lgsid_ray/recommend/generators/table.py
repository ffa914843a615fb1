"""The generation table: every model and tokenizer over its seeds, and rules that count over the same targets."""

from typing import Any

import numpy as np

from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.recommend.generators.experiment import DISCOVERY, NEXT, Generation
from lgsid_ray.recommend.log import SPLITS, TEST, VALID
from lgsid_ray.recommend.summary import Runs, best_epochs, over_seeds, read_runs


def table(generation: Generation, inputs: Inputs) -> dict[str, Any]:
    """What metrics.json holds, from the cells among `inputs`: figures by name, split and task.

    `models` by themselves; `blends` with the rules, and their `worth`: how far they are ahead of `baselines.mixture`.
    """
    arms, splits = read_runs(inputs), {SPLITS[split]: split for split in (VALID, TEST)}
    return {
        "queries": {name: len(generation.targets(split)) for name, split in splits.items()},
        "discovery": {name: len(generation.queries(split, DISCOVERY)) for name, split in splits.items()},
        "models": over_seeds(arms, _means),
        "blends": over_seeds(_with_rules(arms, "blend"), _means),
        "worth": over_seeds(_with_rules(arms, "worth"), _means),
        "baselines": generation.baselines(),
        "best_epoch": best_epochs(arms),
    }


def facts(found: dict[str, Any]) -> Facts:
    """The key figures for the manifest."""
    tables = found["models"] | found["blends"] | found["baselines"]
    told: Facts = {
        f"{name}/hit@10": splits["test"][NEXT]["hit@10"] for name, splits in tables.items() if splits["test"].get(NEXT)
    }
    return told | {"queries": found["queries"]["test"], "discovery": found["discovery"]["test"]}


def _with_rules(arms: dict[str, Runs], part: str) -> dict[str, Runs]:
    """What the cells measured of their blend with the rules, which has a name of its own."""
    return {f"{arm} + rules": {seed: run[part] for seed, run in runs.items()} for arm, runs in arms.items()}


def _means(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and the standard deviation of the overall figures."""
    summary: dict[str, Any] = {}
    for task in (NEXT, DISCOVERY):
        known = runs[0][task]
        summary[task] = known and {key: float(np.mean([run[task][key] for run in runs])) for key in known}
    summary["std"] = {key: float(np.std([run[NEXT][key] for run in runs])) for key in runs[0][NEXT]}
    return summary
