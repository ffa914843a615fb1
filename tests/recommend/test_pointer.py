"""Pointers and the decoder as one distribution: its beam search, its loss and its parts against plain sums."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgsid_ray.artifacts import Trie
from lgsid_ray.config.recommend import PointerConfig
from lgsid_ray.recommend.generators import beam
from lgsid_ray.recommend.generators.batches import GenerateBatches
from lgsid_ray.recommend.generators.candidates import SOURCES, Candidates
from lgsid_ray.recommend.generators.pointer import Pointer
from lgsid_ray.recommend.generators.sequences import Sequences
from lgsid_ray.recommend.log import TEST, TRAIN, VALID
from tests.recommend.test_generation import TOKENS, XYZ, sequences

LENGTH = 5


def pointer(tokens: np.ndarray = TOKENS, seed: int = 0) -> Pointer:
    torch.manual_seed(seed)
    model = Pointer(tokens, LENGTH, PointerConfig(dimension=16, hidden=8))
    for parameter in model.parameters():  # far from uniform, and every part matters
        torch.nn.init.normal_(parameter, std=0.25)
    return model.eval()


def batches(log: Sequences, items: int = len(TOKENS), xyz: np.ndarray | None = XYZ) -> GenerateBatches:
    made = Candidates(log, items, xyz, LENGTH, seed=0)
    return GenerateBatches(log, LENGTH, Pointer.needs, log.of(TRAIN), log.of(VALID), made)


def walks(items: int = len(TOKENS), seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    return sequences(*(rng.integers(0, items, rng.integers(3, 12)).tolist() for _ in range(8)))


def chances(model: Pointer, made: GenerateBatches, rows: np.ndarray) -> torch.Tensor:
    """(b, n) P(item): one target after the other, what points at it and that it is written."""
    found = []
    for row in rows:
        batch = made.batch(np.array([row]))
        user = model._user(batch)
        pointed, writes = model._weigh(batch.suggested, user)
        chance = torch.zeros(len(model.tokens))
        for item, weight in zip(batch.suggested.item[0].tolist(), pointed[0].exp(), strict=True):
            if item >= 0:
                chance[item] += weight
        for item, sid in enumerate(model.tokens.tolist()):
            log_chance, prefix, node = writes[0], torch.zeros_like(user), torch.zeros(1, dtype=torch.long)
            for level, token in enumerate(sid):
                log_chance = log_chance + model._ahead(user, prefix, node, level)[0, token]
                prefix = prefix + model.prefix.weight[token + model.starts[level]]
                below = model.tokens[:, : level + 1].unique(dim=0)
                node = (below == torch.tensor(sid[: level + 1])).all(dim=1).nonzero()[0]
            chance[item] += log_chance.exp()
        found.append(chance)
    return torch.stack(found)


@torch.no_grad()
@settings(max_examples=10, deadline=None)
@given(st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=7, max_size=30), st.integers(0, 99))
def test_a_wide_beam_equals_the_sum_of_all_ways_to_each_item(rows: set[tuple[int, int, int]], seed: int) -> None:
    tokens = np.array(sorted(rows, key=lambda row: hash((row, seed))))
    angle = np.linspace(0, 3, len(tokens))
    xyz = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(len(tokens))])
    made, model = batches(walks(len(tokens), seed), len(tokens), xyz), pointer(tokens, seed)
    targets = made.sequences.of(TEST)[:3]
    truth = chances(model, made, targets)
    torch.testing.assert_close(truth.sum(dim=1), torch.ones(len(targets)))
    items, score = beam.search(model, made.batch(targets), Trie.build(tokens), beams=len(tokens) + 2)
    assert (items[:, -2:] == -1).all()
    found = torch.from_numpy(items[:, :-2])
    assert (found.sort().values == torch.arange(len(tokens))).all()
    torch.testing.assert_close(truth.gather(1, found).log(), torch.from_numpy(score[:, :-2]), atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_loss_is_the_mean_negative_log_probability_of_the_targets() -> None:
    made, model = batches(walks()), pointer()
    for targets in (made.sequences.of(TEST)[:4], made.train[:4]):
        truth = chances(model, made, targets)[np.arange(len(targets)), made.sequences.item[targets]]
        batch = made.batch(targets)
        torch.testing.assert_close(model.losses(batch)["item"], -truth.log().mean())


@torch.no_grad()
def test_a_history_of_one_place_is_copied() -> None:
    made, model = batches(sequences([3] * 6), xyz=None), pointer()
    for layer in (model.writing, model.source):
        layer.weight.zero_()
        layer.bias.fill_(-50)
    model.source.bias[SOURCES.index("history")] = 0
    items, score = beam.search(model, made.batch(made.sequences.of(TEST)), Trie.build(TOKENS), beams=7)
    assert items[0, 0] == 3
    assert score[0, 0] == pytest.approx(0, abs=1e-4)
    assert (score[0, 1:] < -30).all()


@torch.no_grad()
def test_neither_padding_nor_the_rest_of_the_batch_changes_a_list() -> None:
    made, model, trie = batches(walks()), pointer(), Trie.build(TOKENS)
    targets = made.sequences.of(TEST)
    items, score = beam.search(model, made.batch(targets), trie, beams=7)
    for number, target in enumerate(targets):
        alone, own = beam.search(model, made.batch(np.array([target])), trie, beams=7)
        np.testing.assert_allclose(own[0], score[number], atol=1e-4)
        assert alone[0].tolist() == items[number].tolist()


def test_every_part_learns() -> None:
    made, model = batches(walks()), pointer()
    model.losses(made.batch(made.train))["item"].backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle
