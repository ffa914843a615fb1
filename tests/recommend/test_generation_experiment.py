"""The generation experiment as a whole, without Ray: it learns a chain, every setting counts."""

import hashlib
import json

import pytest
from pydantic import ValidationError

from lgsid_ray.config.recommend import GenerateConfig, RankConfig
from lgsid_ray.recommend.generators import experiment
from lgsid_ray.recommend.generators.sequences import build
from lgsid_ray.recommend.inputs import Items
from lgsid_ray.recommend.log import Log
from lgsid_ray.recommend.panel import Panel
from tests.recommend.conftest import Fit

QUICK = GenerateConfig(
    dimension=32, heads=2, history=4, epochs=20, batch_size=64, learning_rate=5e-3, beams=12, dropout=0.0
)


def trained(config: GenerateConfig, items: Items, log: Log, plain_fit: Fit) -> tuple[Panel, dict]:
    sequences = build(log)
    panel = experiment.panel(config, items, 0)
    plain_fit(config, panel, experiment.batches(config, sequences, 0))
    return panel, experiment.judge(config, items, sequences, panel, 0)


def test_it_learns_a_chain_and_beats_popularity(items: Items, chain: Log, plain_fit: Fit) -> None:
    _, found = trained(QUICK, items, chain, plain_fit)
    assert found["models"]["tiger"]["test"]["all"]["hit@5"] > 0.9
    assert found["baselines"]["markov"]["test"]["all"]["hit@5"] > 0.9
    assert found["baselines"]["popularity"]["test"]["all"]["hit@10"] < 0.4
    assert found["baselines"]["own_history"]["test"]["all"]["hit@10"] < 0.4
    assert found["new_share"]["test"] == 1.0
    assert found["models"]["tiger"]["test"]["new"] == found["models"]["tiger"]["test"]["all"]
    json.dumps(found, allow_nan=False)


CHANGES = {
    "seeds": 2,
    "dimension": 16,
    "layers": 2,
    "heads": 4,
    "dropout": 0.5,
    "history": 1,
    "queries": 30,
    "epochs": 2,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "weight_decay": 0.5,
}
ELSEWHERE = {
    "enabled": "the plan of stages",
    "models": "one model so far",
    "trainer": "the training harness",
    "beams": "a wider beam finds likelier items, in test_generation.py",
}


def test_every_field_of_the_section_is_walked() -> None:
    assert {*CHANGES, *ELSEWHERE} == set(GenerateConfig.model_fields)


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_changes_the_result(field: str, items: Items, chain: Log, plain_fit: Fit) -> None:
    def digest(config: GenerateConfig) -> str:
        panel, found = trained(config, items, chain, plain_fit)
        weights = b"".join(p.detach().numpy().tobytes() for p in panel.parameters())
        return hashlib.sha256(weights + json.dumps(found).encode()).hexdigest()

    quick = QUICK.model_copy(update={"epochs": 1, "batch_size": 256})
    assert digest(quick) == digest(quick)
    assert digest(quick) != digest(quick.model_copy(update={field: CHANGES[field]}))


def test_users_with_one_event_leave_nothing_to_judge(chain: Log) -> None:
    assert experiment.unusable(build(chain)) is None
    lonely = build(chain)
    lonely = type(lonely)(lonely.user[:1], lonely.item[:1], lonely.split[:1], lonely.start[:1])
    assert "train target" in str(experiment.unusable(lonely))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="multiple of heads"):
        GenerateConfig(dimension=30, heads=4)
    with pytest.raises(ValidationError, match="leaves some of 2 workers nothing"):
        RankConfig(batch_size=1)
