"""What all rankers have in common: padding and company change nothing, every table learns, small data is learned."""

from typing import Any

import numpy as np
import pytest
import torch

from lgsid_ray.config.recommend import DienConfig, DinConfig, EtaConfig, RankerConfig, SimConfig, TwinConfig
from lgsid_ray.recommend.rankers.batches import RankBatch
from lgsid_ray.recommend.rankers.facts import FACTS
from lgsid_ray.recommend.rankers.items import ItemEmbedding
from lgsid_ray.recommend.rankers.registry import RANKERS

ITEMS = 20
TOKENS = np.random.default_rng(0).integers(0, 4, (ITEMS, 3))
RARE = np.arange(ITEMS) % 7 == 3
SIZES: dict[str, Any] = {"dimension": 4, "hidden": 6, "id_dropout": 0.0}
SEARCH: dict[str, Any] = SIZES | {"found": 4}
MODELS: dict[str, RankerConfig] = {
    "din": DinConfig(**SIZES),
    "dien": DienConfig(**SIZES),
    "sim": SimConfig(**SEARCH),
    "sim, hard": SimConfig(search="hard", **SEARCH),
    "twin": TwinConfig(**SEARCH),
    "eta": EtaConfig(**SEARCH),
}
every_model = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())


def ranker(config: Any, tokens: np.ndarray | None = TOKENS) -> Any:
    """A model of its kind on ITEMS items."""
    torch.manual_seed(0)
    alike = None if tokens is None else slice(2, 2 + 4 * tokens.shape[1])
    return RANKERS[config.kind](ItemEmbedding(ITEMS, config.dimension, tokens, RARE, alike=alike), config)


def batch(rows: int = 8, length: int = 5, long: int = 12, seed: int = 1) -> RankBatch:
    """Samples with histories of any length up to the longest, none among them."""
    rng = np.random.default_rng(seed)
    events = rng.integers(0, ITEMS, (rows, long))
    held = rng.integers(0, long + 1, rows)
    held[:2] = 0, long
    events[np.arange(long) >= held[:, None]] = -1
    inside = events >= 0
    history = events[:, :length]
    passed = np.where(history >= 0, rng.integers(0, ITEMS, history.shape), 0)
    made = {
        "target": rng.integers(0, ITEMS, rows),
        "history": history,
        "passed": passed,
        "long": events,
        "gap": np.where(inside, rng.exponential(1e5, events.shape), 0).astype(np.float32),
        "km": np.where(inside, rng.exponential(10, events.shape), 0).astype(np.float32),
        "facts": rng.standard_normal((rows, len(FACTS))).astype(np.float32),
        "alike": rng.standard_normal((rows, 20)).astype(np.float32),
        "label": (np.arange(rows) % 2).astype(np.float32),
    }
    return RankBatch(**{name: torch.from_numpy(np.ascontiguousarray(field)) for name, field in made.items()})


def padded(given: RankBatch, more: int = 6) -> RankBatch:
    """The same samples, with more padding behind every history."""
    pad = torch.nn.functional.pad
    numbers = {name: pad(getattr(given, name), (0, more), value=-1) for name in ("history", "long")}
    zeros = {name: pad(getattr(given, name), (0, more)) for name in ("passed", "gap", "km")}
    return given._replace(**numbers, **zeros)


@every_model
@pytest.mark.parametrize("tokens", [TOKENS, None], ids=["SIDs", "origin"])
def test_padding_has_no_effect_in_training_or_after(config: RankerConfig, tokens: np.ndarray | None) -> None:
    model, given = ranker(config, tokens), batch()
    torch.testing.assert_close(model.train().losses(given), model.losses(padded(given)))
    torch.testing.assert_close(model.eval()(given), model(padded(given)))
    torch.testing.assert_close(model.losses(given), model.losses(padded(given)))


@every_model
def test_a_sample_is_judged_by_itself_whatever_stands_beside_it(config: RankerConfig) -> None:
    model, given = ranker(config).eval(), batch()
    together = model(given)
    for row in range(len(together)):
        alone = RankBatch(*(field[row : row + 1] for field in given))
        torch.testing.assert_close(model(alone)[0], together[row])


@every_model
@pytest.mark.parametrize("tokens", [TOKENS, None], ids=["SIDs", "origin"])
def test_gradients_reach_every_parameter(config: RankerConfig, tokens: np.ndarray | None) -> None:
    model = ranker(config, tokens)
    sum(model.losses(batch(64)).values()).backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert untouched == []


@every_model
def test_it_learns_64_samples_by_heart(config: RankerConfig) -> None:
    model, given = ranker(config.model_copy(update={"hidden": 16, "dimension": 8})), batch(64)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        sum(model.losses(given).values()).backward()
        optimiser.step()
    model.losses(given)  # Dice keeps the statistics of the last training batch
    assert ((model.eval()(given) > 0) == (given.label > 0)).all()
    assert model.losses(given)["click"] < 0.1


@every_model
def test_it_reads_what_it_says_and_nothing_else(config: RankerConfig) -> None:
    model, given = ranker(config), batch()
    read = given._replace(**{name: None for name in RankBatch._fields if name not in model.needs})
    torch.testing.assert_close(model.losses(read), model.losses(given))
    for name in sorted(
        model.needs - {"target", "history", "long", "facts", "alike", "label"}
    ):  # every model may name those
        with pytest.raises((AttributeError, TypeError)):
            model.losses(given._replace(**{name: None}))


@every_model
def test_it_is_judged_by_its_clicks(config: RankerConfig) -> None:
    model, given = ranker(config).eval(), batch()
    losses = model.losses(given)
    assert next(iter(losses)) == "click"
    expected = torch.nn.functional.binary_cross_entropy_with_logits(model(given), given.label)
    torch.testing.assert_close(losses["click"], expected)
