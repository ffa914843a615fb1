"""Sequences, TIGER and its beam search, against plain definitions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgsid_ray.artifacts import Trie
from lgsid_ray.config.recommend import OneRecConfig, TigerConfig
from lgsid_ray.recommend.generators import beam
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.onerec import OneRec
from lgsid_ray.recommend.generators.sequences import Sequences, build, sample
from lgsid_ray.recommend.generators.tiger import Tiger
from lgsid_ray.recommend.log import NO_SPLIT, TEST, TRAIN, VALID, Log

TOKENS = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 2, 0], [2, 1, 0], [2, 1, 1]])
XYZ = np.array([[np.cos(a), np.sin(a), 0.0] for a in (0.0, 0.1, 0.2, 1.0, 1.1, 2.0, 2.1)])


def sequences(*users: list[int]) -> Sequences:
    user = np.concatenate([[u] * len(items) for u, items in enumerate(users)]).astype(np.int32)
    split = np.concatenate([[TRAIN] * (len(items) - 2) + [VALID, TEST] for items in users]).astype(np.int8)
    item = np.concatenate(users)
    return Sequences(user, item, np.arange(len(item)) * 3600, split, np.searchsorted(user, user))


def tiger(tokens: np.ndarray = TOKENS, seed: int = 0) -> Tiger:
    torch.manual_seed(seed)
    model = Tiger(tokens, 4, TigerConfig(dimension=16, layers=2, heads=2))
    for weight in (model.output.weight, model.token.weight):  # far from uniform, and every token matters
        torch.nn.init.normal_(weight, std=1.0)
    return model.eval()


HISTORY = torch.tensor([[3, 0, -1, -1], [6, 5, 4, 3], [1, -1, -1, -1]])
BATCH = GenerateBatch(history=HISTORY)


def test_a_target_sees_only_what_came_before_it() -> None:
    found = sequences([3, 1, 4, 1, 5], [2, 6, 0])
    assert found.of(TEST).tolist() == [4, 7]
    assert found.of(VALID).tolist() == [3, 6]
    assert found.of(TRAIN).tolist() == [1, 2]
    assert found.histories(np.array([4, 7, 1]), 3).tolist() == [[1, 4, 1], [6, 2, -1], [3, -1, -1]]
    assert found.is_new(np.arange(8)).tolist() == [True, True, True, False, True, True, True, True]


@pytest.mark.parametrize("every", [1, 2, 3, 50])
def test_closing_positions_and_the_events_before_them_are_all_targets_once(every: int) -> None:
    found = sequences([3, 1, 4, 1, 5, 9, 2], [2, 6, 0], [5, 3, 5, 8])
    for split in (TRAIN, VALID, TEST):
        positions = found.of(split)
        closing = positions[found.closing(positions, every)]
        read = [(end, place) for end in closing for place in range(end, max(end - every, -1), -1)]
        met = [place for end, place in read if found.user[place] == found.user[end] and place in positions]
        assert sorted(met) == positions.tolist()


def test_impressions_are_no_part_of_a_sequence() -> None:
    splits = np.array([TRAIN, NO_SPLIT, VALID, TEST], dtype=np.int8)
    user = np.zeros(4, dtype=np.int32)
    log = Log(user, np.array([4, 9, 5, 6]), np.arange(4), np.array([1.0, 0, 1, 1]), splits, splits, "impressions", True)
    assert build(log).item.tolist() == [4, 5, 6]


def test_a_sample_of_targets_is_seeded_and_ordered() -> None:
    positions = np.arange(100, 200)
    chosen = sample(positions, 10, seed=0)
    assert len(set(chosen.tolist())) == 10
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == sample(positions, 10, seed=0).tolist() != sample(positions, 10, seed=1).tolist()
    assert sample(positions, None, seed=0) is positions


def exhaustive(model: Tiger, history: torch.Tensor, tokens: np.ndarray) -> torch.Tensor:
    """(b, n) log-probability of every item, one prefix after the other."""
    score = torch.zeros(len(history), len(tokens))
    for item, sid in enumerate(tokens.tolist()):
        state = model.start(GenerateBatch(history=history))
        for before, token in zip([beam.BEGIN, *sid], sid, strict=False):
            logits, state = model.advance(state, torch.full((len(history), 1), before))
            score[:, item] += logits[:, 0].log_softmax(-1)[:, token]
    return score


def onerec() -> OneRec:
    torch.manual_seed(0)
    return OneRec(TOKENS, 4, OneRecConfig(dimension=16, layers=2, heads=2, experts=3)).eval()


@torch.no_grad()
@pytest.mark.parametrize("make", [tiger, onerec])
def test_token_by_token_is_all_at_once_though_beams_change_places(make: Callable[[], Tiger]) -> None:
    model, rows = make(), torch.tensor([[0, 1, 0], [2, 0, 1], [1, 1, 1]])
    state = model.start(BATCH)
    written = torch.cat([torch.full((3, 1), model.starts[-1]), rows[:, :-1] + model.offsets[:-1]], dim=1)
    whole = [model._decoded(state, sid.expand(len(HISTORY), -1)) for sid in written]
    order, token = [0, 1, 2], torch.full((len(HISTORY), 3), beam.BEGIN)
    for level in range(model.levels):
        logits, state = model.advance(state, token)
        for place, number in enumerate(order):
            torch.testing.assert_close(logits[:, place], model._logits(whole[number][:, level], level))
        parent = [2, 0, 1] if level else [1, 2, 0]
        order = [order[place] for place in parent]
        state = state.take(torch.tensor(parent).expand(len(HISTORY), -1))
        token = rows[order, level].expand(len(HISTORY), -1)


@torch.no_grad()
@settings(max_examples=15)
@given(st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=7, max_size=30), st.integers(0, 99))
def test_a_wide_beam_equals_exhaustive_scoring(rows: set[tuple[int, int, int]], seed: int) -> None:
    tokens = np.array(sorted(rows, key=lambda row: hash((row, seed))))
    model = tiger(tokens, seed)
    items, score = beam.search(model, BATCH, Trie.build(tokens), beams=len(tokens) + 2)
    truth = exhaustive(model, HISTORY, tokens)
    assert (items[:, -2:] == -1).all()
    torch.testing.assert_close(torch.from_numpy(score[:, :-2]), truth.sort(descending=True).values, atol=1e-4, rtol=0)
    found = torch.from_numpy(items[:, :-2])
    assert (found.sort().values == torch.arange(len(tokens))).all()
    torch.testing.assert_close(truth.gather(1, found), torch.from_numpy(score[:, :-2]), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_narrow_beam_yields_real_distinct_items_in_order() -> None:
    model = tiger()
    items, score = beam.search(model, BATCH, Trie.build(TOKENS), beams=3)
    assert ((items >= 0) & (items < len(TOKENS))).all()
    assert all(len(set(row)) == 3 for row in items.tolist())
    assert (np.diff(score, axis=1) <= 0).all()
    truth = exhaustive(model, HISTORY, TOKENS).numpy()
    np.testing.assert_allclose(np.take_along_axis(truth, items, 1), score, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    "make", [tiger, lambda: OneRec(TOKENS, 4, OneRecConfig(dimension=16, heads=2, experts=3)).eval()]
)
def test_token_by_token_is_all_at_once(make: Callable[[], Tiger]) -> None:
    model, beams = make(), 3
    rows = torch.tensor([[[0, 1, 0], [2, 0, 1], [1, 1, 1]]]).expand(len(HISTORY), -1, -1) % torch.tensor(model.sizes)
    state = model.start(BATCH)
    begin = torch.full((len(HISTORY), beams, 1), model.starts[-1])
    written = torch.cat([begin, rows[..., :-1] + model.offsets[:-1]], dim=-1)
    parent = torch.tensor([2, 0, 1]).expand(len(HISTORY), -1)  # beams change places between two levels
    whole = [model._decoded(state, written[:, beam]) for beam in (2, 0, 1)]
    token, stepwise = torch.full((len(HISTORY), beams), beam.BEGIN), state
    for level in range(model.levels):
        logits, stepwise = model.advance(stepwise, token)
        expected = torch.stack([model._logits(hidden[:, level], level) for hidden in whole], dim=1)
        torch.testing.assert_close(logits if level else logits.gather(1, parent[..., None].expand_as(logits)), expected)
        if level == 0:
            stepwise, rows = stepwise.take(parent), rows[:, [2, 0, 1]]
        token = rows[..., level]


@torch.no_grad()
@settings(max_examples=15)
@given(st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=7, max_size=30), st.integers(0, 99))
def test_what_is_left_out_is_never_given_and_the_rest_keeps_its_order(
    rows: set[tuple[int, int, int]], seed: int
) -> None:
    tokens = np.array(sorted(rows, key=lambda row: hash((row, seed))))
    model, trie = tiger(tokens, seed), Trie.build(tokens)
    rng = np.random.default_rng(seed)
    row, item = rng.integers(0, 3, 12), rng.integers(0, len(tokens), 12)
    whole, _ = beam.search(model, BATCH, trie, len(tokens))
    rest, _ = beam.search(model, BATCH, trie, len(tokens), (row, item))
    for number in range(3):
        kept = [found for found in whole[number].tolist() if found not in item[row == number]]
        assert rest[number].tolist() == kept + [-1] * (len(tokens) - len(kept))


class Trap:
    """The likelier first token leads to the less likely items."""

    levels = 2

    def start(self, batch: GenerateBatch) -> "Trap":
        return self

    def take(self, parent: torch.Tensor) -> "Trap":
        return self

    def advance(self, state: "Trap", token: torch.Tensor) -> tuple[torch.Tensor, "Trap"]:
        if (token == beam.BEGIN).all():
            return torch.tensor([0.6, 0.4]).log().expand(*token.shape, 2), self
        return torch.tensor([[0.5, 0.5], [0.99, 0.01]]).log()[token], self


def test_a_wider_beam_finds_likelier_items() -> None:
    trie = Trie.build(np.array([[0, 0], [0, 1], [1, 0]]))
    narrow, wide = (beam.search(Trap(), GenerateBatch(history=HISTORY[:1]), trie, beams) for beams in (1, 3))
    assert narrow[0].tolist() in ([[0]], [[1]])
    assert np.exp(narrow[1]) == pytest.approx(0.3)
    assert wide[0][0, 0] == 2
    assert np.exp(wide[1]) == pytest.approx(np.array([[0.396, 0.3, 0.3]]))


@torch.no_grad()
def test_the_loss_is_the_mean_negative_log_probability_per_token() -> None:
    model = tiger()
    target = torch.tensor([2, 6, 0])
    truth = exhaustive(model, HISTORY, TOKENS)[torch.arange(3), target]
    loss = model.losses(GenerateBatch(HISTORY, target))["token"]
    torch.testing.assert_close(loss, -truth.mean() / 3)
    padded = torch.nn.functional.pad(HISTORY, (0, 2), value=-1)
    torch.testing.assert_close(model.losses(GenerateBatch(padded, target))["token"], loss)


@torch.no_grad()
def test_padding_has_no_effect_on_generation() -> None:
    model = tiger()
    alone = exhaustive(model, HISTORY[:1], TOKENS)
    torch.testing.assert_close(alone, exhaustive(model, HISTORY, TOKENS)[:1])
    torch.testing.assert_close(alone, exhaustive(model, HISTORY[:1, :2], TOKENS))


@torch.no_grad()
def test_the_order_of_the_history_counts() -> None:
    model = tiger()
    swapped = exhaustive(model, HISTORY[1:2].flip(1), TOKENS)
    assert not torch.allclose(exhaustive(model, HISTORY[1:2], TOKENS), swapped)
