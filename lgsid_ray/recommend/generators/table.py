"""The generation table: every model and tokenizer over its seeds, and trivial baselines over the same targets."""

from typing import Any

import numpy as np

from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.recommend.generators.experiment import Generation
from lgsid_ray.recommend.log import SPLITS, TEST, VALID
from lgsid_ray.recommend.summary import best_epochs, over_seeds, read_runs


def table(generation: Generation, inputs: Inputs) -> dict[str, Any]:
    """What metrics.json holds, from the cells among `inputs`."""
    arms, splits = read_runs(inputs), {SPLITS[split]: split for split in (VALID, TEST)}
    return {
        "queries": {name: len(generation.targets(split)) for name, split in splits.items()},
        "new_share": {name: float(generation.new[split].mean()) for name, split in splits.items()},
        "models": over_seeds(arms, _means),
        "baselines": generation.baselines(),
        "best_epoch": best_epochs(arms),
    }


def facts(found: dict[str, Any]) -> Facts:
    """The key figures for the manifest."""
    tables = found["models"] | found["baselines"]
    told: Facts = {f"{name}/hit@10": splits["test"]["all"]["hit@10"] for name, splits in tables.items()}
    return told | {"queries": found["queries"]["test"], "new_share": found["new_share"]["test"]}


def _means(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and the standard deviation of the overall figures."""
    summary: dict[str, Any] = {}
    for part in ("all", "new"):
        known = runs[0][part]
        summary[part] = known and {key: float(np.mean([run[part][key] for run in runs])) for key in known}
    summary["std"] = {key: float(np.std([run["all"][key] for run in runs])) for key in runs[0]["all"]}
    return summary
