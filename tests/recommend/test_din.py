"""DIN against plain loops and formulas, and what SIDs do to it."""

import numpy as np
import torch
from torch import nn

from lgsid_ray.artifacts.keys import prefix_numbers
from lgsid_ray.config.recommend import DinConfig
from lgsid_ray.recommend.rankers.batches import RankBatch
from lgsid_ray.recommend.rankers.din import Din
from lgsid_ray.recommend.rankers.facts import FACTS
from lgsid_ray.recommend.rankers.items import ItemEmbedding
from lgsid_ray.recommend.rankers.layers import Dice, TargetAttention

TOKENS = np.random.default_rng(0).integers(0, 4, (20, 3))


def din(tokens: np.ndarray | None = TOKENS) -> Din:
    torch.manual_seed(0)
    return Din(ItemEmbedding(20, 4, tokens), DinConfig(dimension=4, hidden=6))


def batch(length: int = 5) -> RankBatch:
    rng = np.random.default_rng(1)
    history = rng.integers(0, 20, (8, length))
    history[np.arange(length)[None] >= rng.integers(0, length, 8)[:, None]] = -1
    target = torch.from_numpy(rng.integers(0, 20, 8))
    facts = torch.from_numpy(rng.standard_normal((8, len(FACTS))).astype(np.float32))
    return RankBatch(
        target, torch.from_numpy(history), facts=facts, alike=torch.zeros(8, 0), label=torch.tensor([1.0, 0.0] * 4)
    )


def test_every_distinct_prefix_has_a_number_of_its_own() -> None:
    numbers = prefix_numbers(TOKENS)
    for length in (1, 2, 3):
        seen = {}
        for row, number in zip(TOKENS[:, :length].tolist(), numbers[:, length - 1].tolist(), strict=True):
            assert seen.setdefault(tuple(row), number) == number
        assert sorted(seen.values()) == list(range(len(seen)))


def test_attention_equals_the_mlp_over_concatenated_pairs() -> None:
    torch.manual_seed(1)
    attention = TargetAttention(width=5, hidden=7).eval()
    nn.init.normal_(attention.activation.alpha)
    target, history = torch.randn(3, 5), torch.randn(3, 4, 5)
    valid = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    expected = torch.zeros(3, 5)
    for b in range(3):
        for t in range(4):
            if valid[b, t]:
                pair = torch.cat([target[b], history[b, t], target[b] - history[b, t], target[b] * history[b, t]])
                weight = attention.last(attention.activation(attention.first(pair[None])))[0, 0]
                expected[b] += weight * history[b, t]
    torch.testing.assert_close(attention(target, history, valid), expected)


def test_dice_follows_its_formula_in_training_and_after() -> None:
    dice = Dice(3)
    nn.init.constant_(dice.alpha, 0.25)
    x = torch.randn(50, 3) * 2 + 1
    mean, variance = x.mean(0), x.var(0, unbiased=False)
    gate = torch.sigmoid((x - mean) / (variance + dice.epsilon).sqrt())
    torch.testing.assert_close(dice(x), gate * x + (1 - gate) * 0.25 * x)
    other = torch.randn(4, 3)  # afterwards, the statistics of the last training batch hold for any input
    gate = torch.sigmoid((other - mean) / (variance + dice.epsilon).sqrt())
    torch.testing.assert_close(dice.eval()(other), gate * other + (1 - gate) * 0.25 * other)


def test_without_tokens_only_the_id_counts_and_with_them_they_do_too() -> None:
    assert din(None).items.width == 4
    assert din().items.width == 16
    assert din(None).items.tokens.shape[1] == 0
    model = din().eval()
    before = model(batch())
    with torch.no_grad():
        model.items.by_level[2].weight.add_(1.0)  # type: ignore[operator, union-attr]
    assert not torch.allclose(before, model(batch()))


def test_items_with_the_same_id_row_and_tokens_get_the_same_score() -> None:
    tokens = TOKENS.copy()
    tokens[3] = tokens[7]
    model = din(tokens).eval()
    with torch.no_grad():
        model.items.by_id.weight[3] = model.items.by_id.weight[7]
    three, seven = (model(batch()._replace(target=torch.full((8,), item))) for item in (3, 7))
    torch.testing.assert_close(three, seven)
