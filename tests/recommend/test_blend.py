"""The mixture of a generator and the rules: by hand, and at its two ends."""

import numpy as np
import pytest

from lgsid_ray.recommend.generators.baselines import Rules
from lgsid_ray.recommend.generators.blend import GENERATOR, Blend, among_found
from lgsid_ray.recommend.metrics import gain_figures, hit_and_ndcg
from tests.recommend.test_counting_baselines import XYZ, walks


def everything(targets: np.ndarray, likely: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A generator that lists all seven items, one of them with a chance of .7."""
    items = np.tile(np.arange(7), (len(targets), 1))
    return items, np.log(np.where(items == likely[:, None], 0.7, 0.05))


def test_every_probability_is_the_weighted_sum() -> None:
    logs, found = walks(8, users=30)
    ends = np.cumsum([len(log) for log in logs]) - 1
    rules, rng = Rules(found, 7, XYZ, ends), np.random.default_rng(0)
    items, score = everything(ends, rng.integers(0, 7, len(ends)))
    items[::3, 4:], score[::3, 4:] = -1, -np.inf  # fewer beams than items
    blend = Blend.fit(rules, ends - 1, (items, score), discovery=False)
    assert blend is not None
    lists, chance = blend.lists(ends, (items, score), 7)
    popular = (rules.popular + 0.1) / (rules.popular.sum() + 0.7)
    said = {name: each.toarray() for name, each in rules.chances(ends, False).items()}
    for row in range(len(ends)):
        for item, told in zip(lists[row], chance[row], strict=True):
            place = np.flatnonzero(items[row] == item)
            own = float(np.exp(score[row, place[0]])) if len(place) else 0.0
            total = blend.weights[GENERATOR] * own + sum(
                blend.weights[name] * each[row, item] for name, each in said.items()
            )
            total += blend.weights["popularity"] * popular[item] + blend.weights["uniform"] / 7
            assert told == pytest.approx(total, abs=1e-8)
        assert sorted(lists[row]) == list(range(7))


@pytest.mark.parametrize("discovery", [False, True])
def test_a_generator_that_knows_nothing_has_no_say_and_one_that_knows_all_has_it_all(discovery: bool) -> None:
    logs, found = walks(9, users=80)
    valid = np.cumsum([len(log) for log in logs]) - 2
    if discovery:
        valid = valid[found.is_new(valid)]
    rules, target = Rules(found, 7, XYZ, valid), found.item[valid]
    knows = (target[:, None], np.zeros((len(valid), 1)))
    errs = ((target[:, None] + 1) % 7, np.zeros((len(valid), 1)))
    best, worst = (Blend.fit(rules, valid, listed, discovery) for listed in (knows, errs))
    assert best is not None
    assert worst is not None
    assert best.weights[GENERATOR] == pytest.approx(1, abs=1e-6)
    assert best.lists(valid, knows, 1)[0][:, 0].tolist() == target.tolist()
    assert worst.weights[GENERATOR] == 0
    chances = rules.chances(valid, discovery)
    alone = rules.weights(valid, chances)
    assert alone is not None
    for mine, theirs in zip(
        worst.lists(valid, errs, 7), rules.mixture(valid, chances, alone, 7, discovery), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_chances_among_what_is_found_sum_to_one_in_the_same_order() -> None:
    score = np.array([[-1.0, -2.0, -np.inf], [-0.5, -0.7, -9.0]])
    items = np.array([[4, 2, -1], [0, 1, 2]])
    same, told = among_found((items, score))
    assert same is items
    np.testing.assert_allclose(np.exp(told).sum(axis=1), 1)
    np.testing.assert_allclose(told[0, 0] - told[0, 1], 1)
    assert told[0, 2] == -np.inf


def test_without_a_target_there_is_no_blend() -> None:
    _, found = walks(10)
    nothing = np.empty(0, dtype=np.int64)
    listed = (np.empty((0, 3), dtype=np.int64), np.empty((0, 3)))
    assert Blend.fit(Rules(found, 7, XYZ, nothing), nothing, listed, discovery=True) is None


def test_gains_are_the_difference_of_the_figures_and_their_interval_is_paired() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 50, 400)
    rival = np.array([rng.permutation(50)[:10] for _ in target])
    lists = rival.copy()
    lists[:20, 9] = target[:20]  # twenty more are found, and nobody loses
    mine, theirs = (hit_and_ndcg(each, target, (5, 10)) for each in (lists, rival))
    told = gain_figures(lists, rival, target, 10)
    for name in ("hit@10", "ndcg@10"):
        assert told[name] == pytest.approx(mine[name] - theirs[name])
        assert 0 < told[f"{name}_low"] < told[name] < told[f"{name}_high"]
    # Of the two figures by themselves the intervals overlap: 400 queries, of which some eighty and a hundred are found.
    assert told["hit@10_high"] - told["hit@10_low"] < 0.06
    same = gain_figures(rival, rival, target, 10)
    assert set(same.values()) == {0.0}
