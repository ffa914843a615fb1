"""OneRec's sessions and its mixture of experts, against plain loops."""

import numpy as np
import torch

from lgsid_ray.artifacts import Trie
from lgsid_ray.config.recommend import OneRecConfig
from lgsid_ray.recommend.generators import beam
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.onerec import TOP, Experts, OneRec
from lgsid_ray.recommend.log import TEST, TRAIN, VALID
from tests.recommend.test_generation import HISTORY, TOKENS, exhaustive, sequences

SESSION = torch.tensor([[2, 6, 0, -1, -1], [1, -1, -1, -1, -1], [5, 4, 3, 2, 1]])


def onerec() -> OneRec:
    torch.manual_seed(0)
    model = OneRec(TOKENS, 4, OneRecConfig(dimension=16, layers=2, heads=2, experts=3))
    for weight in (model.output.weight, model.token.weight, model.place.weight):  # far from uniform
        torch.nn.init.normal_(weight, std=1.0)
    return model.eval()


def test_a_session_ends_with_its_user_and_its_split() -> None:
    found = sequences([3, 1, 4, 1, 5, 9, 2, 6], [2, 6, 0])
    assert found.of(TRAIN).tolist() == [1, 2, 3, 4, 5]
    rows = np.array([1, 4, *found.of(VALID), *found.of(TEST)])
    assert found.sessions(rows).tolist() == [
        [1, 4, 1, 5, 9],
        [5, 9, -1, -1, -1],
        [2, -1, -1, -1, -1],
        [6, -1, -1, -1, -1],
        [6, -1, -1, -1, -1],
        [0, -1, -1, -1, -1],
    ]


@torch.no_grad()
def test_every_position_goes_through_the_experts_that_its_gate_prefers() -> None:
    torch.manual_seed(0)
    layer = Experts(8, experts=5)
    x = torch.randn(2, 3, 4, 8)
    mixed = layer(x)
    share, mean = np.zeros(5), np.zeros(5)
    for place in np.ndindex(2, 3, 4):
        gate = layer.gate(x[place]).softmax(-1)
        best = sorted(range(5), key=lambda number, gate=gate: -float(gate[number]))[:TOP]
        loop = sum(gate[number] * layer.experts[number](x[place]) for number in best)
        torch.testing.assert_close(mixed[place], loop)
        share[best] += 1 / (24 * TOP)
        mean += gate.numpy() / 24
    np.testing.assert_allclose(float(layer.balance), 5 * (share * mean).sum(), rtol=1e-5)


@torch.no_grad()
def test_a_session_of_one_is_the_next_item() -> None:
    model = onerec()
    target = torch.tensor([2, 6, 0])
    alone = torch.nn.functional.pad(target[:, None], (0, 4), value=-1)
    truth = exhaustive(model, HISTORY, TOKENS)[torch.arange(3), target]
    loss = model.losses(GenerateBatch(history=HISTORY, session=alone))["token"]
    torch.testing.assert_close(loss, -truth.mean() / 3)
    _, score = beam.search(model, GenerateBatch(history=HISTORY), Trie.build(TOKENS), beams=len(TOKENS))
    every = exhaustive(model, HISTORY, TOKENS).sort(descending=True).values
    torch.testing.assert_close(torch.from_numpy(score), every, atol=1e-4, rtol=0)


@torch.no_grad()
def test_later_items_of_a_session_see_the_earlier_ones_and_change_nothing_before_them() -> None:
    model = onerec()

    def losses(session: torch.Tensor, row: int) -> list[float]:
        """Of the first item, of the first two, …, each mean over tokens × number of tokens."""
        found = []
        for count in range(1, int((session >= 0).sum()) + 1):
            cut = torch.where(torch.arange(5) < count, session, -1)[None]
            batch = GenerateBatch(history=HISTORY[row : row + 1], session=cut)
            found.append(float(model.losses(batch)["token"]) * count * 3)
        return found

    first = losses(SESSION[2], 2)
    changed = losses(torch.tensor([5, 4, 6, 2, 1]), 2)
    assert np.allclose(first[:2], changed[:2], atol=1e-4)
    assert abs((first[3] - first[2]) - (changed[3] - changed[2])) > 1e-3
    together = model.losses(GenerateBatch(history=HISTORY, session=SESSION))["token"]
    total = sum(losses(SESSION[row], row)[-1] for row in range(3))
    np.testing.assert_allclose(float(together), total / (3 * int((SESSION >= 0).sum())), rtol=1e-4)
