"""How items enter a ranker: rare ones share what IDs tell, and IDs give way to it at times while training."""

import numpy as np
import torch

from lgsid_ray.recommend.rankers.items import ItemEmbedding

TOKENS = np.random.default_rng(0).integers(0, 4, (20, 3))
RARE = np.arange(20) < 5


def embedding(tokens: np.ndarray | None = TOKENS, dropout: float = 0.0) -> ItemEmbedding:
    torch.manual_seed(0)
    return ItemEmbedding(20, 4, tokens, RARE, dropout)


def test_an_item_is_its_id_and_its_tokens() -> None:
    made, items = embedding(), torch.arange(20)
    found = made(items)
    assert found.shape == (20, made.width) == (20, 16)
    torch.testing.assert_close(found[5:, :4], made.by_id.weight[:15])
    for level, table in enumerate(made.by_level):
        expected = table.weight[torch.from_numpy(TOKENS[:, level])]
        torch.testing.assert_close(found[:, 4 + 4 * level : 8 + 4 * level], expected)


def test_rare_items_are_told_apart_by_their_tokens_alone() -> None:
    without = embedding(None)
    origin = without(torch.arange(20))
    torch.testing.assert_close(origin[:5], without.by_id.weight[-1].expand(5, 4))
    assert len(origin[5:].unique(dim=0)) == 15
    assert len(embedding()(torch.arange(5)).unique(dim=0)) == len(np.unique(TOKENS[:5], axis=0))


def test_rare_items_have_no_row_of_their_own_and_learn_the_one_they_share() -> None:
    made = embedding()
    assert made.by_id.weight.shape == (16, 4)
    made(torch.arange(20)).sum().backward()
    torch.testing.assert_close(made.by_id.weight.grad, torch.ones(16, 4).index_fill(0, torch.tensor(15), 5.0))


def test_ids_give_way_as_often_as_is_said_and_only_while_training() -> None:
    made = embedding(dropout=0.3)
    items = torch.full((10_000,), 9)
    gone = (made.train()(items)[:, :4] == made.by_id.weight[-1]).all(dim=1)
    assert abs(gone.float().mean().item() - 0.3) < 0.02
    torch.testing.assert_close(made(items)[:, 4:], made(items)[:, 4:])  # tokens stay
    torch.testing.assert_close(made.eval()(items), embedding()(items))
