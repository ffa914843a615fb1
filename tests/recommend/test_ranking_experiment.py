"""The ranking experiment as a whole, without Ray: it learns, it is fair to Origin, every setting counts."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lgsid_ray.config.recommend import RankConfig
from lgsid_ray.recommend.inputs import Items
from lgsid_ray.recommend.log import Log
from lgsid_ray.recommend.panel import Panel
from lgsid_ray.recommend.rankers import experiment
from tests.recommend.conftest import ITEMS, Fit

QUICK = RankConfig(seeds=1, dimension=8, hidden=8, history=6, epochs=3, batch_size=128, learning_rate=5e-3)


def trained(config: RankConfig, items: Items, log: Log, plain_fit: Fit, seed: int = 0) -> tuple[Panel, dict]:
    samples = experiment.samples(config, items, log, seed)
    panel = experiment.panel(config, items, seed)
    plain_fit(config, panel, experiment.batches(config, samples))
    return panel, experiment.judge(config, items, log, samples, panel)


def test_sids_let_it_learn_a_taste_that_trivial_rankers_cannot_see(items: Items, clicks: Log, plain_fit: Fit) -> None:
    _, found = trained(QUICK, items, clicks, plain_fit)
    assert found["models"]["din/lgsid"]["test"]["mean"]["auc"] > 0.9
    assert found["models"]["din/lgsid"]["test"]["mean"]["logloss"] < 0.45
    assert abs(found["baselines"]["popularity"]["test"]["auc"] - 0.5) < 0.1
    gain = found["gain"]["din"]["test"]["mean"]["auc"]
    difference = [found["models"][f"din/{arm}"]["test"]["mean"]["auc"] for arm in ("lgsid", "origin")]
    assert gain == pytest.approx(difference[0] - difference[1])
    assert found["log"]["kind"] == "impressions"
    json.dumps(found, allow_nan=False)


def test_origin_sees_no_sids(items: Items, clicks: Log, plain_fit: Fit) -> None:
    other = replace(items, tokens=items.tokens[::-1].copy())
    before, after = (trained(QUICK, each, clicks, plain_fit)[1]["models"] for each in (items, other))
    assert before["din/origin"] == after["din/origin"]
    assert before["din/lgsid"] != after["din/lgsid"]


def test_members_of_a_panel_learn_what_they_would_alone(items: Items, clicks: Log, plain_fit: Fit) -> None:
    samples = experiment.samples(QUICK, items, clicks, 0)
    together = experiment.panel(QUICK, items, 0)
    alone = Panel({}, {})
    alone.members["din/lgsid/0"] = experiment.panel(QUICK, items, 0).members["din/lgsid/0"]
    for panel in (together, alone):
        plain_fit(QUICK, panel, experiment.batches(QUICK, samples))
    both = [panel.members["din/lgsid/0"].state_dict() for panel in (together, alone)]
    for name in both[0]:
        torch.testing.assert_close(both[0][name], both[1][name], rtol=0, atol=0)


def test_seeds_differ_and_repeat(items: Items) -> None:
    config = QUICK.model_copy(update={"seeds": 2})
    panel, again = experiment.panel(config, items, 3), experiment.panel(config, items, 3)
    first, second = (panel.members[f"din/lgsid/{k}"].state_dict() for k in range(2))
    assert not torch.equal(first["last.weight"], second["last.weight"])
    assert all(torch.equal(a, b) for a, b in zip(panel.parameters(), again.parameters(), strict=True))
    assert not torch.equal(experiment.panel(config, items, 4).members["din/lgsid/0"].last.weight, first["last.weight"])


CHANGES = {
    "seeds": 2,
    "dimension": 4,
    "hidden": 4,
    "history": 3,
    "negatives": 1,
    "near": 0.0,
    "neighbours": 2,
    "rating_threshold": 3.0,
    "cold": 1000,
    "epochs": 1,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "weight_decay": 0.5,
}
ELSEWHERE = {
    "enabled": "the plan of stages",
    "models": "one model so far",
    "trainer": "the training harness",
}


def test_every_field_of_the_section_is_walked() -> None:
    assert {*CHANGES, *ELSEWHERE} == set(RankConfig.model_fields)


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_changes_the_result(field: str, items: Items, clicks: Log, plain_fit: Fit) -> None:
    log = clicks
    if field in ("near", "neighbours"):
        log = replace(clicks, label=np.ones(len(clicks)), kind="visits")
    if field == "rating_threshold":
        log = replace(clicks, label=1.0 + clicks.item % 3, kind="ratings")

    def digest(config: RankConfig) -> str:
        panel, found = trained(config, items, log, plain_fit)
        weights = b"".join(p.detach().numpy().tobytes() for p in panel.parameters())
        return hashlib.sha256(weights + json.dumps(found).encode()).hexdigest()

    quick = QUICK.model_copy(update={"epochs": 2, "batch_size": 512})
    assert digest(quick) == digest(quick)
    assert digest(quick) != digest(quick.model_copy(update={field: CHANGES[field]}))


def test_a_split_of_one_kind_is_unusable(items: Items, clicks: Log) -> None:
    samples = experiment.samples(
        QUICK, items, replace(clicks, label=np.where(clicks.rank_split == 2, 0.0, clicks.label)), 0
    )
    assert "test split" in str(experiment.unusable(samples))
    assert experiment.unusable(experiment.samples(QUICK, items, clicks, 0)) is None


def test_cold_items_are_those_with_few_training_clicks(items: Items, clicks: Log) -> None:
    samples = experiment.samples(QUICK, items, clicks, 0)
    cold = np.arange(ITEMS) < 7
    assert experiment.describe(QUICK, clicks, samples, cold)["cold_items"] == 7
