"""Counting rules on SID prefixes: equal to plain loops, and they tell SIDs with meaning from those without."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lgsid_ray.config import load
from lgsid_ray.config.recommend import GenerateConfig
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.counts import rules
from lgsid_ray.recommend.counts.rules import ClickRule, next_items
from lgsid_ray.recommend.counts.stage import count
from lgsid_ray.recommend.generators.experiment import Generation
from lgsid_ray.recommend.log import TEST, TRAIN, Log
from lgsid_ray.recommend.metrics import auc, hit_and_ndcg
from lgsid_ray.recommend.rankers.negatives import Negatives
from lgsid_ray.recommend.rankers.samples import Samples, build
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


def clicks_rule(clicks: Log, tokens: np.ndarray) -> tuple[ClickRule, Samples]:
    samples = build(clicks, Negatives(ITEMS, None, 4, 0.5, 8), None, seed=0)
    return ClickRule(samples, tokens, length=20), samples


def test_the_click_rule_reads_of_a_prefix_what_a_plain_loop_reads(clicks: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = sids()
    rule, samples = clicks_rule(clicks, tokens)
    rows, teller = samples.of(TEST)[:40], samples.of(TRAIN)[::3]
    table = rule._features(rows, teller)
    heads = [[tuple(row[: length + 1]) for row in tokens.tolist()] for length in range(2)]
    overall = (samples.label[teller].sum() + 1) / (len(teller) + 2)
    for row, found in zip(rows.tolist(), table, strict=True):
        events = [item for item in samples.histories(np.array([row]), 20)[0].tolist() if item >= 0]
        expected = []
        for head in heads:
            alike = sum(head[item] == head[samples.item[row]] for item in events)
            labels = [samples.label[other] for other in teller if head[samples.item[other]] == head[samples.item[row]]]
            shrunk = (sum(labels) + 20 * overall) / (len(labels) + 20)
            expected += [alike / max(len(events), 1), float(alike > 0), np.log1p(alike), np.log(shrunk / (1 - shrunk))]
        assert found == pytest.approx(expected, rel=1e-6)
    monkeypatch.setattr(rules, "_CELLS", 7 * 20)
    assert np.array_equal(rule._features(rows, teller), table)


def test_no_label_explains_itself(clicks: Log) -> None:
    # Labels without any reason, and items that are as good as one sample each: a rule that counted a sample's own
    # label among its prefix's odds would believe in them.
    noise = np.random.default_rng(1).integers(0, 2, len(clicks)).astype(clicks.label.dtype)
    rule, samples = clicks_rule(replace(clicks, label=noise), np.arange(ITEMS)[:, None])
    told = rule.probabilities(samples.of(TEST))
    assert told.std() < 0.045


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
    areas = [
        auc(samples.label[samples.of(TEST)], rule.probabilities(samples.of(TEST)))
        for rule, samples in (clicks_rule(clicks, codes) for codes in (tastes, sids()))
    ]
    assert areas[0] == pytest.approx(1.0)
    assert areas[1] is not None
    assert areas[1] < 0.8  # they tell an item that was clicked before from the others, and no more


def test_the_stage_judges_what_the_log_allows(tmp_path: Path) -> None:
    out = StageDir(f"{tmp_path}/out").make()
    told = count(load(None), inputs(tmp_path / "timed"), out)
    found = out.read_json("metrics.json")
    assert told == {"auc": found["rank"]["test"]["auc"], "hit@10": found["generate"]["test"]["next"]["hit@10"]}
    assert found["generate"]["valid"]["next"]["hit@10"] > 0.9  # the walk's next ten are a prefix or two
    assert "auc" not in count(load(None), inputs(tmp_path / "none", events=False), out)
    assert out.read_json("metrics.json")["generate"] == {"skipped": "the catalogue has no interactions"}
    assert count(load(None), inputs(tmp_path / "untimed", times=False), out).keys() == {"auc"}
