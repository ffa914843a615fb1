"""Counting rules on SID prefixes: equal to plain loops, and they tell SIDs with meaning from those without."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lgsid_ray.config import load
from lgsid_ray.config.recommend import GenerateConfig
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.counts import rules
from lgsid_ray.recommend.counts.rules import affinity, next_items
from lgsid_ray.recommend.counts.stage import count
from lgsid_ray.recommend.generators.experiment import Generation
from lgsid_ray.recommend.log import TEST, Log
from lgsid_ray.recommend.metrics import auc, hit_and_ndcg
from tests.recommend.conftest import ITEMS, TASTES
from tests.recommend.test_recommend_stages import inputs


def sids(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, [4, 5], (ITEMS, 2))


def test_the_next_items_are_those_of_a_plain_loop(chain: Log, xyz: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences, tokens = Generation.of(GenerateConfig(), ITEMS, xyz, chain, 0).sequences, sids()
    positions = sequences.of(TEST)[:30]
    seen, source, target = sequences.training()
    visits = Counter(seen.tolist())
    heads = [[tuple(row[: length + 1]) for row in tokens.tolist()] for length in range(2)]
    expected = []
    for position in positions:
        history = [item for item in sequences.histories(np.array([position]), rules.DEPTH)[0].tolist() if item >= 0]
        score = np.zeros(ITEMS)
        for place, last in enumerate(history):
            for head in heads:
                left = [
                    to for come, to in zip(source.tolist(), target.tolist(), strict=True) if head[come] == head[last]
                ]
                for item in range(ITEMS):
                    alike = [other for other in range(ITEMS) if head[other] == head[item]]
                    reach = sum(head[to] == head[item] for to in left) / max(len(left), 1)
                    within = (visits[item] + 1) / sum(visits[other] + 1 for other in alike)
                    score[item] += rules.FADE**place * reach * within
        score += np.array([visits[item] + 1 for item in range(ITEMS)]) / (len(seen) + ITEMS) * 1e-6
        expected.append(score)
    whole = next_items(sequences, positions, tokens, 10)
    for row, score in zip(whole, expected, strict=True):
        assert score[row] == pytest.approx(np.sort(score)[::-1][:10], rel=1e-9)
        assert len(set(row.tolist())) == 10
    monkeypatch.setattr(rules, "_CELLS", 7 * ITEMS)
    assert np.array_equal(next_items(sequences, positions, tokens, 10), whole)
    assert (next_items(sequences, positions, tokens, ITEMS + 3)[:, ITEMS:] == -1).all()


def test_affinity_is_the_mean_of_the_bits_that_are_shared() -> None:
    # Four items of 2 visits each and one in advance; prefixes of 2 and of 1 item: 1 bit and 2.
    tokens, visits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.full(4, 2)
    history = np.array([[0, 1, -1], [2, 3, 0], [-1, -1, -1]])
    assert affinity(history, np.array([0, 3, 1]), tokens, visits) == pytest.approx([(2 + 1) / 2, (1 + 2 + 0) / 3, 0])
    # A prefix that half of the visits go to tells less than one of a quarter.
    popular = affinity(np.array([[1], [3]]), np.array([0, 2]), tokens, np.array([29, 29, 9, 9]))
    assert popular == pytest.approx([-np.log2(60 / 80), -np.log2(20 / 80)])


def test_sids_that_follow_the_walk_or_the_taste_are_worth_more_than_random_ones(
    chain: Log, clicks: Log, xyz: np.ndarray
) -> None:
    sequences = Generation.of(GenerateConfig(), ITEMS, xyz, chain, 0).sequences
    positions = sequences.of(TEST)
    follow = np.full(ITEMS, -1)
    _, source, target = sequences.training()
    follow[source] = target
    place, item = np.empty(ITEMS, int), int(source[0])
    for step in range(ITEMS):
        place[item], item = step, int(follow[item])
    hits = [
        hit_and_ndcg(next_items(sequences, positions, codes, 10), sequences.item[positions], (10,))["hit@10"]
        for codes in (
            np.column_stack([place // 6]),
            np.column_stack([np.random.default_rng(0).permutation(place) // 6]),
        )
    ]
    assert hits[0] > 0.8
    assert hits[1] < 0.6
    tastes = np.column_stack([np.arange(ITEMS) % TASTES])
    history = np.stack([clicks.item[(clicks.user == user) & (clicks.label > 0)][:5] for user in clicks.user[-500:]])
    areas = [
        auc(clicks.label[-500:], affinity(history, clicks.item[-500:], codes, np.ones(ITEMS, int)))
        for codes in (tastes, sids())
    ]
    assert areas[0] == pytest.approx(1.0)
    assert areas[1] is not None
    assert areas[1] < 0.8  # they tell an item that was clicked before from the others, and no more


def test_the_stage_judges_what_the_log_allows(tmp_path: Path) -> None:
    out = StageDir(f"{tmp_path}/out").make()
    told = count(load(None), inputs(tmp_path / "timed"), out)
    found = out.read_json("metrics.json")
    assert told == {"auc": found["rank"]["test"]["auc"], "hit@10": found["generate"]["test"]["all"]["hit@10"]}
    assert found["generate"]["valid"]["all"]["hit@10"] > 0.9  # the walk's next ten are a prefix or two
    assert "auc" not in count(load(None), inputs(tmp_path / "none", events=False), out)
    assert out.read_json("metrics.json")["generate"] == {"skipped": "the catalogue has no interactions"}
    assert count(load(None), inputs(tmp_path / "untimed", times=False), out).keys() == {"auc"}
