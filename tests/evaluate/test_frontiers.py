"""Frontiers against brute force, interpolation on known answers, and the order of the arms."""

from dataclasses import replace

import numpy as np
import pytest

from lgsid_ray.artifacts.fusion import Fusion
from lgsid_ray.evaluate.alignment import gaps, lines, retrieval_tables
from lgsid_ray.evaluate.frontiers import (
    aligned,
    content_fusion,
    content_oracle,
    distance_kernel,
    label_fusion,
    late_fusion,
    levels,
    log_distance,
    oracle,
    text_fusion,
    whitened_all,
    whitened_fusion,
)
from lgsid_ray.evaluate.retrieval import search
from lgsid_ray.evaluate.space import draw_queries
from lgsid_ray.geo.distance import haversine_km

K = 5


def ranking(scores: np.ndarray, query: int) -> list[int]:
    others = [item for item in range(len(scores)) if item != query]
    return sorted(others, key=lambda item: -scores[item])[:K]


@pytest.mark.parametrize(("make", "kept"), [(oracle, "reference"), (content_oracle, "content")])
def test_an_oracle_re_ranks_the_whole_catalogue(space, make, kept):
    queries, gammas, vectors = np.arange(0, 240, 7), (0.0, 0.05, 0.3, 4.0), getattr(space, kept)
    arm = make(space, queries, K, gammas)
    for position, gamma in enumerate(gammas):
        for row, query in enumerate(queries):
            same = space.labels[:, 2] == space.labels[query, 2]
            scores = vectors @ vectors[query] + gamma * same
            assert arm.found[position, row].tolist() == ranking(scores, query)


def test_late_fusion_is_the_cosine_of_the_concatenation(space):
    queries, weights = np.arange(0, 240, 7), (0.0, 0.5, 5.0, 100.0)
    arm = late_fusion(space, queries, K, weights)
    for position, weight in enumerate(weights):
        joined = np.concatenate([space.reference.astype(np.float64), weight * space.xyz], axis=1)
        for row, query in enumerate(queries):
            scores = joined @ joined[query] / (1 + weight**2)
            chosen = scores[arm.found[position, row]]
            np.testing.assert_allclose(chosen, scores[ranking(scores, query)], rtol=0, atol=1e-9)


def kilometres(space, query: int) -> np.ndarray:
    lat, lon = np.degrees(np.arcsin(space.xyz[:, 2])), np.degrees(np.arctan2(space.xyz[:, 1], space.xyz[:, 0]))
    return haversine_km(lat, lon, lat[query], lon[query])


def levels_shared(space, query: int) -> np.ndarray:
    return (space.labels == space.labels[query]) @ np.array([0.25, 0.5, 1.0])


@pytest.mark.parametrize(
    ("arm", "bonus"),
    [
        (levels, levels_shared),
        (distance_kernel, lambda space, query: np.exp(-kilometres(space, query) / 5)),
        (log_distance, lambda space, query: -np.log1p(kilometres(space, query))),
    ],
)
def test_a_bonus_is_added_to_the_cosine(space, arm, bonus):
    queries = np.arange(0, 240, 7)
    found = arm(space, queries, K)
    for position, knob in enumerate(found.knobs):
        for row, query in enumerate(queries):
            scores = space.reference.astype(np.float64) @ space.reference[query] + knob * bonus(space, query)
            chosen = scores[found.found[position, row]]
            np.testing.assert_allclose(chosen, scores[ranking(scores, query)], rtol=0, atol=1e-6)


def test_label_fusion_finds_who_shares_labels_without_asking_whose_they_are(space):
    queries = np.arange(60)
    strong = label_fusion(space, queries, K).found[-1]
    assert (space.labels[strong, 2] == space.labels[queries, 2][:, None]).mean() > 0.85
    unknown = replace(space, labels=np.full_like(space.labels, -1))
    assert (label_fusion(unknown, queries, K).found == search(space.reference, queries, K)).all()


@pytest.mark.parametrize("make", [text_fusion, whitened_fusion, whitened_all])
def test_text_fusion_puts_a_text_into_every_embedding(space, make):
    queries, texts = np.arange(0, 240, 7), space.texts
    arm = make(space, queries, K)
    told = texts.embedded.astype(np.float64)
    if make is not text_fusion:
        fitted_to = texts.embedded[texts.trained] if make is whitened_fusion else texts.embedded
        told = Fusion.fitted(fitted_to, 0.0).directions(texts.embedded).astype(np.float64)
    for position, weight in enumerate(arm.knobs):
        mixed = space.reference + weight * np.where(texts.of[:, None] >= 0, told[texts.of], 0)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        for row, query in enumerate(queries):
            scores = mixed @ mixed[query]
            chosen = scores[arm.found[position, row]]
            np.testing.assert_allclose(chosen, scores[ranking(scores, query)], rtol=0, atol=1e-6)


def test_strong_late_fusion_returns_the_nearest_places(space):
    queries = np.arange(40)
    arm = late_fusion(space, queries, K, (1e6,))
    for row, query in enumerate(queries):
        nearest = np.argsort(np.linalg.norm(space.xyz - space.xyz[query], axis=1))[1 : K + 1]
        assert set(arm.found[0, row]) == set(nearest)


def test_every_arm_begins_at_origin_and_alpha_one_is_the_model(space):
    queries = np.arange(60)
    origin = search(space.reference, queries, K)
    arms = (oracle, levels, label_fusion, late_fusion, distance_kernel, log_distance, text_fusion)
    arms += (whitened_fusion, whitened_all, content_fusion)
    for arm in (make(space, queries, K) for make in (*arms, aligned)):
        assert arm.knobs[0] == 0.0
        assert (arm.found[0] == origin).all()
    arm = aligned(space, queries, K)
    assert (arm.found[arm.knobs.index(1.0)] == search(space.aligned, queries, K)).all()


def test_between_reference_and_policy_lies_their_normalised_mixture(space):
    queries, alphas = np.arange(0, 240, 7), (0.3, 1.7)
    arm = aligned(space, queries, K, alphas)
    for position, alpha in enumerate(alphas):
        mixed = (1 - alpha) * space.reference.astype(np.float64) + alpha * space.aligned
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        for row, query in enumerate(queries):
            scores = mixed @ mixed[query]
            chosen = scores[arm.found[position, row]]
            np.testing.assert_allclose(chosen, scores[ranking(scores, query)], rtol=0, atol=1e-6)


def test_content_fusion_is_what_and_where_beside_the_whole(space):
    queries, texts = np.arange(0, 240, 7), space.texts
    arm = content_fusion(space, queries, K)
    told = Fusion.fitted(texts.embedded[texts.trained], 0.0).directions(texts.embedded)
    for position, weight in enumerate(arm.knobs):
        beside = space.content + np.where(texts.of[:, None] >= 0, told[texts.of], 0)
        mixed = space.reference.astype(np.float64) + weight * beside
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        for row, query in enumerate(queries):
            scores = mixed @ mixed[query]
            chosen = scores[arm.found[position, row]]
            np.testing.assert_allclose(chosen, scores[ranking(scores, query)], rtol=0, atol=1e-6)


def test_no_arm_lies_above_its_oracle(space):
    queries = draw_queries(np.array(["train"] * 160 + ["held_place"] * 80), 100, 0)
    found = lines(space, queries)
    for floor in (0.9, 0.97, 0.99):
        told = gaps(space, queries, found, floor, 0)
        # The oracles' lines are read between steps of γ, hence the hair's breadth.
        for kind in ("frontier", "content_frontier"):
            for group in told[kind].values():
                assert 0 < group["gap_closed"]["aligned"] < 1.01
                assert all(closed < 1.01 for closed in group["gap_closed"].values() if closed is not None)


def test_a_floor_of_all_meaning_is_read_at_origin(space):
    queries = draw_queries(np.array(["train"] * 240), 100, 0)
    found = gaps(space, queries, lines(space, queries), 1.0, 0)["frontier"]["all"]
    assert all(closed is None or closed >= 0 for closed in found["gap_closed"].values())


def test_a_saved_space_is_read_at_what_it_keeps(space):
    queries = draw_queries(np.array(["train"] * 240), 240, 0)
    found = lines(space, queries)
    kept = gaps(space, queries, found, 0.97, 0)["saved"]["all"]["aligned"]
    at_that = gaps(space, queries, found, kept["kept"], 0)["frontier"]["all"]
    assert kept["gap_closed"] == pytest.approx(at_that["gap_closed"])
    assert kept["point"]["knob"] == 1.0
    assert kept["saved_interval"][0] < kept["saved"] < kept["saved_interval"][1]
    origin = gaps(replace(space, aligned=space.reference), queries, found, 0.97, 0)["saved"]["all"]["aligned"]
    assert origin["kept"] == pytest.approx(1.0)
    assert not origin["saved"]


def test_one_item_one_district_and_few_items_give_reasons(space):
    few = type(space)(space.reference[:3], space.labels[:3], space.xyz[:3])
    queries = draw_queries(np.array(["train"] * 3), 10, 0)
    assert gaps(few, queries, lines(few, queries), 0.97, 0)["frontier"]["all"]["reason"].startswith("too few items")
    rows = retrieval_tables(few, queries, [2, 5])
    assert [row["district"] is None for row in rows if row["group"] == "all"] == [False, True]
    one = type(space)(space.reference, np.zeros_like(space.labels), space.xyz)
    queries = draw_queries(np.array(["train"] * 240), 10, 0)
    found = gaps(one, queries, lines(one, queries), 0.97, 0)["frontier"]["all"]
    assert set(found["gap_closed"].values()) == {None}
    assert "no gap" in found["reason"]
