"""The generation experiment: which targets, which models, and how they are judged."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from lgsid_ray.arrays import Bool, Int64
from lgsid_ray.config.recommend import GenerateConfig
from lgsid_ray.recommend.batches import GenerateBatches
from lgsid_ray.recommend.generators import baselines, beam
from lgsid_ray.recommend.generators.registry import GENERATORS
from lgsid_ray.recommend.generators.sequences import Sequences, sample
from lgsid_ray.recommend.generators.trie import Trie
from lgsid_ray.recommend.inputs import Items
from lgsid_ray.recommend.log import SPLITS, TEST, TRAIN, VALID
from lgsid_ray.recommend.metrics import hit_and_ndcg
from lgsid_ray.recommend.panel import Panel

KS = (5, 10)
QUERIES = 256
"""Histories decoded at once."""


def unusable(sequences: Sequences) -> str | None:
    """Why there is nothing to learn or to judge, or None."""
    for split in (TRAIN, VALID, TEST):
        if not len(sequences.of(split)):
            return f"no user has a {SPLITS[split]} target with a history before it (three events a user are needed)"
    return None


def panel(config: GenerateConfig, items: Items, seed: int) -> Panel:
    """Every model × seed; a member's name is `model/k`."""
    names = [(model, k) for model in config.models for k in range(config.seeds)]
    tokens = items.unique_tokens
    members = {f"{model}/{k}": partial(_build, config, tokens, model) for model, k in names}
    return Panel(members, {f"{model}/{k}": seed * config.seeds + k for model, k in names})


def batches(config: GenerateConfig, sequences: Sequences, seed: int) -> GenerateBatches:
    """What the training loop draws on; validation on as many targets as are judged."""
    valid = sample(sequences.of(VALID), config.queries, seed)
    return GenerateBatches(sequences, config.history, sequences.of(TRAIN), valid)


def judge(config: GenerateConfig, items: Items, sequences: Sequences, panel: Panel, seed: int) -> dict[str, Any]:
    """Hit@K and NDCG@K of every model and trivial baseline over the same targets and the whole catalogue.

    On valid and test; overall and on targets new to their user.
    """
    trie = Trie.build(items.unique_tokens)
    result: dict[str, Any] = {"queries": {}, "new_share": {}, "models": {}, "baselines": {}}
    for split in (VALID, TEST):
        name = SPLITS[split]
        positions = sample(sequences.of(split), config.queries, seed)
        new = sequences.is_new(positions)
        target = sequences.item[positions]
        result["queries"][name], result["new_share"][name] = len(positions), float(new.mean())
        for model in config.models:
            members = [panel.members[f"{model}/{k}"] for k in range(config.seeds)]
            lists = [generated(member, sequences, positions, trie, config) for member in members]
            runs = [figures(found, target, new) for found in lists]
            result["models"].setdefault(model, {})[name] = _mean(runs) | {"seeds": runs}
        for baseline, found in baselines.recommend(sequences, positions, items.xyz, max(KS)).items():
            result["baselines"].setdefault(baseline, {})[name] = figures(found, target, new)
    tables = result["models"] | result["baselines"]
    result["facts"] = {f"{name}/hit@10": table["test"]["all"]["hit@10"] for name, table in tables.items()}
    result["facts"] |= {"queries": result["queries"]["test"], "new_share": result["new_share"]["test"]}
    return result


def generated(model: nn.Module, sequences: Sequences, positions: Int64, trie: Trie, config: GenerateConfig) -> Int64:
    """(q, max K) item_index by beam search, best first, -1 where the catalogue is smaller."""
    model.eval()
    device = next(model.parameters()).device
    lists = []
    for begin in range(0, len(positions), QUERIES):
        history = sequences.histories(positions[begin : begin + QUERIES], config.history)
        items, _ = beam.search(model, torch.from_numpy(history).to(device), trie, config.beams)  # type: ignore[arg-type]
        lists.append(items[:, : max(KS)])
    return np.concatenate(lists)


def figures(lists: Int64, target: Int64, new: Bool) -> dict[str, Any]:
    """Figures over all targets and over those new to their user (None where there are none)."""
    apart = hit_and_ndcg(lists[new], target[new], KS) if new.any() else None
    return {"all": hit_and_ndcg(lists, target, KS), "new": apart}


def _build(config: GenerateConfig, tokens: Int64, model: str) -> nn.Module:
    return GENERATORS[model](tokens, config)


def _mean(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and the standard deviation of the overall figures."""
    summary: dict[str, Any] = {}
    for part in ("all", "new"):
        known = runs[0][part]
        summary[part] = known and {key: float(np.mean([run[part][key] for run in runs])) for key in known}
    summary["std"] = {key: float(np.std([run["all"][key] for run in runs])) for key in runs[0]["all"]}
    return summary
