"""The ranking table: every model and arm over its seeds, gains over the model without SIDs, trivial baselines."""

from typing import Any

from lgsid_ray.artifacts import Sids
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.recommend.log import SPLITS, TEST
from lgsid_ray.recommend.rankers.experiment import Ranking
from lgsid_ray.recommend.rankers.paired import gain_intervals, read_scores
from lgsid_ray.recommend.summary import (
    JUDGED,
    ORIGIN,
    Figures,
    Runs,
    best_epochs,
    folders,
    over_seeds,
    read_runs,
    spread,
)


def table(ranking: Ranking, inputs: Inputs) -> dict[str, Any]:
    """What metrics.json holds, from the cells among `inputs`."""
    arms = read_runs(inputs)
    return {
        "log": ranking.describe(),
        "models": over_seeds(arms, spread),
        "baselines": ranking.baselines(
            Sids(inputs["tokenise"]).tokens(ranking.items) if "tokenise" in inputs else None
        ),
        "gain": _sure(over_seeds(_gains(arms), spread), ranking, inputs),
        "best_epoch": best_epochs(arms),
    }


def facts(found: dict[str, Any]) -> Facts:
    """The key figures for the manifest."""
    told: Facts = {"log": found["log"]["kind"], "samples": found["log"]["samples"]}
    told |= {f"{name}/auc": splits["test"]["mean"]["auc"] for name, splits in found["models"].items()}
    return told | {f"{name}/auc": splits["test"]["auc"] for name, splits in found["baselines"].items()}


def _gains(arms: dict[str, Runs]) -> dict[str, Runs]:
    """Every arm with SIDs less the same model without, seed by seed; left out where no seed has both."""
    gains: dict[str, Runs] = {}
    for name, runs in arms.items():
        model, _, arm = name.partition("/")
        origin = arms.get(f"{model}/{ORIGIN}", {})
        pairs = {seed: (run, origin[seed]) for seed, run in runs.items() if arm != ORIGIN and seed in origin}
        if pairs:
            gains[name] = {
                seed: {split: _less(a[split], b[split]) for split in JUDGED} for seed, (a, b) in pairs.items()
            }
    return gains


def _sure(gains: dict[str, dict[str, Any]], ranking: Ranking, inputs: Inputs) -> dict[str, dict[str, Any]]:
    """With `interval` on test: what 95 % of the draws of users have the mean gain between."""
    cells, rows = folders(inputs), ranking.samples.of(TEST)
    user, label = ranking.samples.user[rows], ranking.samples.label[rows]
    for name, found in gains.items():
        origin = cells[f"{name.partition('/')[0]}/{ORIGIN}"]
        seeds = [seed for seed in cells[name] if seed in origin]
        after, before = ([read_scores(arm[seed]) for seed in seeds] for arm in (cells[name], origin))
        found[SPLITS[TEST]]["interval"] = gain_intervals(user, label, after, before)
    return gains


def _less(after: Figures, before: Figures) -> Figures:
    gain: Figures = {}
    for name, value in after.items():
        base = before[name]
        gain[name] = None if value is None or base is None else value - base
    return gain
