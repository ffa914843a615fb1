"""The generation experiment as a whole, without Ray: it learns a chain, every setting counts."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lgsid_ray.config.recommend import (
    GenerateConfig,
    Generator,
    OneRecConfig,
    PointerConfig,
    RankConfig,
    SasrecConfig,
    TigerConfig,
)
from lgsid_ray.execution.stage import Cell
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.experiment import Generation
from lgsid_ray.recommend.generators.registry import GENERATORS
from lgsid_ray.recommend.generators.table import table
from lgsid_ray.recommend.log import TEST, TRAIN, Log, Unusable
from lgsid_ray.recommend.panel import Panel
from tests.recommend.conftest import ITEMS, Cells, Fit, panel_of

SMALL = TigerConfig(dimension=32, heads=2)
ONEREC = OneRecConfig(dimension=32, heads=2, experts=3)
SASREC = SasrecConfig(dimension=32, heads=1, dropout=0.0)
POINTER = PointerConfig(dimension=16, hidden=16, dropout=0.0)
QUICK = GenerateConfig(history=4, epochs=20, batch_size=64, learning_rate=5e-3, beams=20)
BRIEF = QUICK.model_copy(update={"epochs": 1, "batch_size": 256})


def trained(generation: Generation, cells: list[Cell], plain_fit: Fit) -> tuple[Panel, dict[str, Any]]:
    """The cells' panel, and what each cell measured."""
    panel = panel_of(generation, cells)
    plain_fit(generation.config, panel, generation.batches(cells))
    return panel, {cell.name: generation.judge(cell, panel.members[cell.name]) for cell in cells}


@pytest.mark.parametrize("model", [SMALL, POINTER, ONEREC, SASREC], ids=lambda model: model.kind)
def test_it_learns_a_chain_and_beats_popularity(
    model: Generator, xyz: np.ndarray, chain: Log, generate_cells: Cells, plain_fit: Fit
) -> None:
    generation = Generation.of(QUICK, ITEMS, xyz, chain, 0)
    [cell] = generate_cells(model)
    _, each = trained(generation, [cell], plain_fit)
    found = each[cell.name]
    baselines = generation.baselines()
    assert found["test"]["next"]["hit@5"] > 0.9
    assert found["blend"]["test"]["next"]["hit@5"] > 0.9
    for task in ("next", "discovery"):
        assert sum(found["blend"]["weights"][task].values()) == pytest.approx(1)
        worth = found["worth"]["test"][task]
        assert worth["hit@10_low"] <= worth["hit@10"] <= worth["hit@10_high"]
    assert baselines["markov"]["test"]["next"]["hit@5"] > 0.9
    assert baselines["mixture"]["test"]["next"]["hit@5"] > 0.9
    assert baselines["popularity"]["test"]["next"]["hit@10"] < 0.4
    assert baselines["own_history"]["test"]["next"]["hit@10"] < 0.4
    # Every target is new, and without what is visited no list is worse.
    discovery = found["test"]["discovery"]
    ranked = [name for name in discovery if not name.startswith("within")]
    assert all(discovery[name] >= found["test"]["next"][name] for name in ranked)
    json.dumps([found, baselines], allow_nan=False)


def test_the_table_tells_means_over_seeds(xyz: np.ndarray, chain: Log, tmp_path: Any) -> None:
    inputs = {}
    for seed, hit in ((0, 0.2), (1, 0.4)):
        figures = {"next": {"hit@10": hit}, "discovery": None}
        folder = StageDir(f"{tmp_path}/{seed}").make()
        judged = {"valid": figures, "test": figures}
        blend = judged | {"weights": {"next": {"generator": 1.0}, "discovery": None}}
        folder.write_json("metrics.json", {**judged, "blend": blend, "worth": judged, "best_epoch": 3})
        inputs[f"generate/tiger/hgit/{seed}"] = folder
    found = table(Generation.of(QUICK, ITEMS, xyz, chain, 0), {"catalogue": StageDir("nowhere"), **inputs})
    assert found["models"]["tiger/hgit"]["test"]["next"] == {"hit@10": pytest.approx(0.3)}
    assert found["models"]["tiger/hgit"]["test"]["std"] == {"hit@10": pytest.approx(0.1)}
    assert found["models"]["tiger/hgit"]["test"]["discovery"] is None
    for part in ("blends", "worth"):
        assert found[part]["tiger/hgit + rules"]["test"]["next"] == {"hit@10": pytest.approx(0.3)}
    assert found["queries"] == found["discovery"] == {"valid": 120, "test": 120}


def test_cells_with_dropout_learn_side_by_side_what_they_would_alone(
    xyz: np.ndarray, chain: Log, generate_cells: Cells, plain_fit: Fit
) -> None:
    generation = Generation.of(BRIEF.model_copy(update={"clip": 0.5}), ITEMS, xyz, chain, 0)
    cells = generate_cells(SMALL.model_copy(update={"dropout": 0.3}), seeds=2)
    together, _ = trained(generation, cells, plain_fit)
    alone, _ = trained(generation, cells[1:], plain_fit)
    for name, member in alone.members.items():
        torch.testing.assert_close(member.state_dict(), together.members[name].state_dict(), rtol=0, atol=0)


CHANGES = {
    "history": 1,
    "queries": 30,
    "epochs": 2,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "weight_decay": 0.5,
    "clip": 0.01,
}
ELSEWHERE = {
    "enabled": "the plan of stages",
    "seeds": "the plan of stages",
    "models": "the plan of stages; of the kind below",
    "trainer": "the training harness",
    "beams": "a wider beam finds likelier items, in test_generation.py",
}
MODELS: dict[str, tuple[Generator, dict[str, Any]]] = {
    "tiger": (SMALL, {"dimension": 16, "layers": 2, "heads": 4, "dropout": 0.5}),
    "pointer": (POINTER, {"dimension": 8, "hidden": 8, "dropout": 0.5}),
    "onerec": (ONEREC, {"dimension": 16, "layers": 2, "heads": 4, "dropout": 0.5, "experts": 4, "balance": 1.0}),
    "sasrec": (SASREC, {"dimension": 16, "layers": 1, "heads": 2, "dropout": 0.5}),
}


def test_every_field_of_the_section_is_walked() -> None:
    assert {*CHANGES, *ELSEWHERE} == set(GenerateConfig.model_fields)
    assert MODELS.keys() == GENERATORS.keys()
    for model, changes in MODELS.values():
        assert {*changes, "kind"} == set(type(model).model_fields)


@pytest.mark.parametrize(
    ("kind", "field"),
    [*(("tiger", name) for name in CHANGES), *((kind, name) for kind in MODELS for name in MODELS[kind][1])],
)
def test_every_field_changes_the_result(
    kind: str, field: str, xyz: np.ndarray, chain: Log, generate_cells: Cells, plain_fit: Fit
) -> None:
    def digest(config: GenerateConfig, model: Generator) -> str:
        generation = Generation.of(config, ITEMS, xyz, chain, 0)
        panel, found = trained(generation, generate_cells(model), plain_fit)
        weights = b"".join(p.detach().numpy().tobytes() for p in panel.parameters())
        return hashlib.sha256(weights + json.dumps(found).encode()).hexdigest()

    small, changes = MODELS[kind]
    before = digest(BRIEF, small)
    assert before == digest(BRIEF, small)
    changed = BRIEF.model_copy(update={field: CHANGES[field]}) if field in CHANGES else BRIEF
    assert before != digest(changed, small.model_copy(update={field: changes[field]}) if field in changes else small)


def test_every_generator_has_a_configuration_and_reads_known_fields() -> None:
    for config in GenerateConfig(models=list(GENERATORS)).models:  # each kind by its name
        assert GENERATORS[config.kind].needs <= set(GenerateBatch._fields)


def test_users_with_one_event_or_no_times_leave_nothing_to_judge(xyz: np.ndarray, chain: Log) -> None:
    lonely = replace(chain, generate_split=np.where(chain.generate_split == 0, -1, chain.generate_split))
    with pytest.raises(Unusable, match="train target"):
        Generation.of(QUICK, ITEMS, xyz, lonely, 0)
    with pytest.raises(Unusable, match="no time stamps"):
        Generation.of(QUICK, ITEMS, xyz, replace(chain, timed=False), 0)


def test_a_catalogue_without_coordinates_has_no_rule_of_nearness(chain: Log) -> None:
    rules = {"popularity", "own_history", "own_recent", "markov", "transitions", "co_occurrence", "companions"}
    assert Generation.of(QUICK, ITEMS, None, chain, 0).baselines().keys() == rules | {"mixture"}


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="multiple of heads"):
        GenerateConfig(models=[{"kind": "tiger", "dimension": 30, "heads": 4}])
    with pytest.raises(ValidationError, match="leaves some of 2 workers nothing"):
        RankConfig(batch_size=1)


def test_cold_targets_and_kilometres_of_lists_are_told(xyz: np.ndarray, chain: Log) -> None:
    rng = np.random.default_rng(0)
    visits = np.bincount(chain.item[chain.generate_split == TRAIN], minlength=ITEMS)
    # So that some items are cold: of those with even numbers only the first five training visits are kept.
    seen = np.array([np.sum(chain.item[:row] == item) for row, item in enumerate(chain.item)])
    kept = (chain.generate_split != TRAIN) | (chain.item % 2 == 1) | (seen < 5)
    log = replace(chain, **{name: getattr(chain, name)[kept] for name in ("user", "item", "time", "label")})
    log = replace(log, rank_split=chain.rank_split[kept], generate_split=chain.generate_split[kept])
    generation = Generation.of(QUICK, ITEMS, xyz, log, 0)
    queries = generation.targets(TEST)
    lists = np.array([rng.permutation(ITEMS)[:20] for _ in queries])
    lists[::3, 7:] = -1
    found = generation.figures(queries, lists)
    assert found is not None
    assert visits.min() > 5
    target, last = generation.sequences.item[queries], generation.sequences.item[queries - 1]
    cold = [item in row[:10] for item, row in zip(target, lists, strict=True) if item % 2 == 0]
    assert found["hit@10_cold"] == pytest.approx(np.mean(cold))
    km = [
        6371.0088 * 2 * np.arcsin(np.linalg.norm(xyz[item] - xyz[place]) / 2)
        for place, row in zip(last, lists, strict=True)
        for item in row[:10]
        if item >= 0
    ]
    for limit in (1, 5, 20):
        assert found[f"within_{limit}km"] == pytest.approx(np.mean(np.array(km) <= limit))
    assert not any(
        name.startswith("within") for name in Generation.of(QUICK, ITEMS, None, log, 0).figures(queries, lists)
    )
