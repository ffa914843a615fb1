"""Ranking and generation metrics against scikit-learn, plain loops and known answers."""

import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from lgsid_ray.recommend.metrics import (
    auc,
    calibration_error,
    gauc,
    hit_and_ndcg,
    interval,
    list_figures,
    logloss,
    target_ranks,
)


def test_auc_counts_ordered_pairs() -> None:
    label, score = np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1])
    assert auc(label, score) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert auc(np.ones(3), np.arange(3.0)) is None
    assert auc(np.empty(0), np.empty(0)) is None


def test_gauc_is_the_weighted_mean_of_each_users_auc() -> None:
    rng = np.random.default_rng(0)
    user, label = rng.integers(0, 30, 500), rng.integers(0, 2, 500).astype(np.float32)
    score = rng.integers(0, 6, 500) / 5  # many ties
    label[user == 3] = 1
    parts, weights = [], []
    for who in np.unique(user):
        mine = user == who
        if 0 < label[mine].mean() < 1:
            parts.append(roc_auc_score(label[mine], score[mine]))
            weights.append(mine.sum())
    assert gauc(user, label, score) == pytest.approx(np.average(parts, weights=weights))


def test_gauc_is_undefined_where_no_user_has_both_labels() -> None:
    assert gauc(np.array([0, 0, 1]), np.array([1, 1, 0]), np.array([0.1, 0.2, 0.3])) is None
    assert gauc(np.empty(0, dtype=int), np.empty(0), np.empty(0)) is None


def test_logloss_follows_its_formula_and_survives_certainty() -> None:
    assert logloss(np.array([1, 0]), np.array([0.8, 0.4])) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert math.isfinite(logloss(np.array([1, 0]), np.array([0.0, 1.0])))


def test_calibration_error_on_known_answers() -> None:
    probability = np.repeat([0.2, 0.7], 50)
    label = np.r_[np.ones(10), np.zeros(40), np.ones(25), np.zeros(25)]
    assert calibration_error(label, probability, bins=2) == pytest.approx((0 + 0.2) / 2)
    assert calibration_error(label[::-1], probability[::-1], bins=2) == pytest.approx(0.1)
    assert calibration_error(np.ones(3), np.ones(3)) == 0


def test_hit_and_ndcg_on_known_answers() -> None:
    lists = np.array([[7, 8, 9], [7, 8, 9], [7, 8, 9], [5, -1, -1]])
    target = np.array([7, 9, 1, 2])
    assert target_ranks(lists, target).tolist() == [0, 2, 3, 3]
    found = hit_and_ndcg(lists, target, (1, 3))
    assert found == pytest.approx({"hit@1": 0.25, "hit@3": 0.5, "ndcg@1": 0.25, "ndcg@3": (1 + 0.5) / 4})


def test_ndcg_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    lists = np.argsort(rng.random((40, 20)), axis=1)
    target = rng.integers(0, 20, 40)
    relevance, score = np.eye(20)[target], np.zeros((40, 20))
    np.put_along_axis(score, lists, np.arange(20, 0, -1.0)[None].repeat(40, 0), axis=1)
    assert hit_and_ndcg(lists, target, [5])["ndcg@5"] == pytest.approx(ndcg_score(relevance, score, k=5))


def test_metrics_refuse_what_they_cannot_judge() -> None:
    with pytest.raises(ValueError, match="length 2"):
        hit_and_ndcg(np.array([[1, 2]]), np.array([1]), [5])
    with pytest.raises(ValueError, match="no query"):
        hit_and_ndcg(np.empty((0, 5), dtype=int), np.empty(0, dtype=int), [5])


def test_figures_of_lists_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    lists = np.array([rng.permutation(12)[:6] for _ in range(200)])
    target = rng.integers(0, 12, 200)
    found = list_figures(lists, target, (1, 3), told=3)
    places = [row.tolist().index(item) if item in row else None for row, item in zip(lists, target, strict=True)]
    assert found["mrr"] == pytest.approx(np.mean([0 if place is None else 1 / (place + 1) for place in places]))
    assert found["hit@3"] == pytest.approx(np.mean([place is not None and place < 3 for place in places]))
    assert found["hit@3_low"] < found["hit@3"] < found["hit@3_high"]
    assert found["ndcg@3_low"] < found["ndcg@3"] < found["ndcg@3_high"]


def test_the_interval_is_that_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(5, 2, 4000)
    low, high = interval(values)
    error = values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)
    assert interval(np.full(9, 0.25)) == (0.25, 0.25)
