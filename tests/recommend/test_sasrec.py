"""SASRec against a loop over positions, and through the search that decodes SIDs."""

import numpy as np
import torch

from lgsid_ray.artifacts import Trie
from lgsid_ray.config.recommend import SasrecConfig
from lgsid_ray.recommend.generators import beam
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.sasrec import Sasrec
from tests.recommend.test_generation import HISTORY

ITEMS = np.arange(7)[:, None]


def sasrec(layers: int = 2) -> Sasrec:
    torch.manual_seed(0)
    return Sasrec(ITEMS, 4, SasrecConfig(dimension=8, layers=layers, heads=1)).eval()


@torch.no_grad()
def test_every_position_looks_at_itself_and_at_what_came_before() -> None:
    model = sasrec()
    for history in HISTORY:
        items = history[history >= 0]
        x = 8**0.5 * model.item.weight[items] + model.place.weight[: len(items)].flip(0)  # latest first
        for block in model.blocks:
            normed, mixed = block.own_norm(x), torch.zeros_like(x)
            key, value = block.own.key_value(normed).chunk(2, dim=-1)
            for place, query in enumerate(block.own.query(normed)):
                weight = torch.softmax(torch.stack([query @ other / 8**0.5 for other in key[place:]]), dim=0)
                mixed[place] = block.own.out(sum(w * v for w, v in zip(weight, value[place:], strict=True)))
            x = x + mixed
            x = x + block.feed(x)
        logits = model.item.weight @ model.norm(x[0])
        found = model.start(GenerateBatch(history=history[None]))
        torch.testing.assert_close(model.advance(found, torch.tensor([[beam.BEGIN]]))[0][0, 0], logits)


@torch.no_grad()
def test_the_search_gives_items_by_probability_and_the_loss_is_theirs() -> None:
    model, batch = sasrec(), GenerateBatch(history=HISTORY, target=torch.tensor([2, 6, 0]))
    truth = model.advance(model.start(batch), torch.full((3, 1), beam.BEGIN))[0][:, 0].log_softmax(-1)
    torch.testing.assert_close(model.losses(batch)["item"], -truth[torch.arange(3), batch.target].mean())
    items, score = beam.search(model, batch, Trie.build(ITEMS), beams=9, without=(np.array([0, 0]), np.array([3, 1])))
    expected = truth.clone()
    expected[0, [3, 1]] = -torch.inf
    best = expected.sort(descending=True)
    torch.testing.assert_close(torch.from_numpy(score[:, :7]), best.values)
    assert items[1:, :7].tolist() == best.indices[1:].tolist()
    assert items[0].tolist() == [*best.indices[0, :5].tolist(), -1, -1, -1, -1]
    assert (items[:, 7:] == -1).all()


def test_in_training_every_event_of_a_closing_row_is_a_target_of_those_before_it() -> None:
    model = Sasrec(ITEMS, 4, SasrecConfig(dimension=8, layers=2, heads=1, dropout=0.0)).train()
    target, closing = torch.tensor([2, 6, 0]), torch.tensor([True, True, False])
    found = model.losses(GenerateBatch(history=HISTORY, target=target, closing=closing))["item"]
    losses = []
    for row in (0, 1):
        events = [int(target[row]), *HISTORY[row][HISTORY[row] >= 0].tolist()]  # latest first
        for place in range(len(events) - 1):
            user = model._read(torch.tensor([events[place + 1 :]]))[0, 0]
            losses.append(-(model.item.weight @ user).log_softmax(-1)[events[place]])
    torch.testing.assert_close(found, sum(losses) / 3)
    found.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_a_batch_without_a_closing_row_teaches_nothing_and_reaches_every_weight() -> None:
    model = sasrec().train()
    batch = GenerateBatch(history=HISTORY, target=torch.tensor([2, 6, 0]), closing=torch.zeros(3, dtype=torch.bool))
    loss = model.losses(batch)["item"]
    loss.backward()
    assert loss == 0
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())


@torch.no_grad()
def test_padding_and_the_rest_of_a_batch_have_no_effect() -> None:
    model = sasrec()
    whole = model.start(GenerateBatch(history=HISTORY)).user
    for row, history in enumerate(HISTORY):
        alone = model.start(GenerateBatch(history=history[history >= 0][None])).user
        torch.testing.assert_close(alone[0], whole[row])
