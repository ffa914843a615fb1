"""The ranking experiment: which samples, which models with and without SIDs, and how they are judged."""

from functools import partial
from typing import Any

import numpy as np
from torch import nn

from lgsid_ray.config.recommend import RankConfig
from lgsid_ray.recommend.batches import RankBatches
from lgsid_ray.recommend.inputs import Items
from lgsid_ray.recommend.log import SPLITS, TEST, TRAIN, VALID, Log
from lgsid_ray.recommend.panel import Panel
from lgsid_ray.recommend.rankers import baselines
from lgsid_ray.recommend.rankers import samples as sampling
from lgsid_ray.recommend.rankers.items import ItemEmbedding
from lgsid_ray.recommend.rankers.negatives import Negatives
from lgsid_ray.recommend.rankers.registry import RANKERS
from lgsid_ray.recommend.rankers.samples import Samples
from lgsid_ray.recommend.rankers.scoring import figures, probabilities, spread

ARMS = ("origin", "lgsid")
"""Without SIDs, and with them; nothing else differs."""


def threshold(config: RankConfig, log: Log) -> float | None:
    """From which rating on a label is positive; None for logs without ratings."""
    if log.kind != "ratings":
        return None
    return sampling.rating_threshold(log) if config.rating_threshold is None else config.rating_threshold


def samples(config: RankConfig, items: Items, log: Log, seed: int) -> Samples:
    """The log's ranking samples, drawn negatives included."""
    negatives = Negatives(items.xyz, config.negatives, config.near, config.neighbours)
    return sampling.build(log, negatives, threshold(config, log), seed)


def unusable(samples: Samples) -> str | None:
    """Why there is nothing to learn or to judge, or None."""
    for split in (TRAIN, VALID, TEST):
        labels = samples.label[samples.of(split)]
        if len(labels) == 0 or labels.min() == labels.max():
            return f"the {SPLITS[split]} split needs positives and negatives, it has {len(labels)} samples of one kind"
    return None


def panel(config: RankConfig, items: Items, seed: int) -> Panel:
    """Every model × arm × seed; a member's name is `model/arm/k`."""
    members, seeds = {}, {}
    for model in config.models:
        for arm in ARMS:
            for k in range(config.seeds):
                members[f"{model}/{arm}/{k}"] = partial(_build, config, items, model, arm)
                seeds[f"{model}/{arm}/{k}"] = seed * config.seeds + k
    return Panel(members, seeds)


def batches(config: RankConfig, samples: Samples) -> RankBatches:
    """What the training loop draws on."""
    return RankBatches(samples, config.history, samples.of(TRAIN), samples.of(VALID))


def judge(config: RankConfig, items: Items, log: Log, samples: Samples, panel: Panel) -> dict[str, Any]:
    """The table of figures on valid and test: every model and arm over its seeds, and the trivial baselines."""
    train = samples.of(TRAIN)
    clicks = np.bincount(samples.item[train], weights=samples.label[train], minlength=len(items.xyz))
    cold = clicks <= config.cold
    result: dict[str, Any] = {"log": describe(config, log, samples, cold), "models": {}, "baselines": {}, "gain": {}}
    for split in (VALID, TEST):
        rows, name = samples.of(split), SPLITS[split]
        for model in config.models:
            runs = {}
            for arm in ARMS:
                members = [panel.members[f"{model}/{arm}/{k}"] for k in range(config.seeds)]
                scored = [probabilities(member, samples, rows, config.history) for member in members]
                runs[arm] = [figures(samples, rows, score, cold, calibrated=True) for score in scored]
                summary = spread(runs[arm]) | {"seeds": runs[arm]}
                result["models"].setdefault(f"{model}/{arm}", {})[name] = summary
            gains = [_gain(*pair) for pair in zip(*runs.values(), strict=True)]
            result["gain"].setdefault(model, {})[name] = spread(gains) | {"seeds": gains}
        for baseline, score in baselines.scores(samples, rows, items.xyz, config.history).items():
            found = figures(samples, rows, score, cold, calibrated=baseline == "popularity")
            result["baselines"].setdefault(baseline, {})[name] = found
    result["facts"] = _facts(result)
    return result


def describe(config: RankConfig, log: Log, samples: Samples, cold: np.ndarray) -> dict[str, Any]:
    """What the log is and how its samples came about."""
    counts = {SPLITS[split]: len(samples.of(split)) for split in (TRAIN, VALID, TEST)}
    return {
        "kind": log.kind,
        "timed": log.timed,
        "samples": counts,
        "positive_share": float(samples.label.mean()),
        "rating_threshold": threshold(config, log),
        "negatives": {"impressions": "logged, thinned", "visits": "drawn: popular and near", "ratings": "low ratings"}[
            log.kind
        ],
        "cold_items": int(cold.sum()),
        "cold_test_samples": int(cold[samples.item[samples.of(TEST)]].sum()),
    }


def _build(config: RankConfig, items: Items, model: str, arm: str) -> nn.Module:
    tokens = items.tokens if arm == "lgsid" else None
    return RANKERS[model](ItemEmbedding(len(items.xyz), config.dimension, tokens), config)


def _gain(origin: dict[str, float | None], lgsid: dict[str, float | None]) -> dict[str, float | None]:
    """LGSID less Origin, of one seed."""
    gain: dict[str, float | None] = {}
    for name, before in origin.items():
        after = lgsid[name]
        gain[name] = None if before is None or after is None else after - before
    return gain


def _facts(result: dict[str, Any]) -> dict[str, Any]:
    """The key figures for the manifest."""
    facts: dict[str, Any] = {"log": result["log"]["kind"], "samples": result["log"]["samples"]}
    for name, splits in result["models"].items():
        facts[f"{name}/auc"] = splits["test"]["mean"]["auc"]
    for name, splits in result["baselines"].items():
        facts[f"{name}/auc"] = splits["test"]["auc"]
    return facts
