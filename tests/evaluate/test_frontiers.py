"""Frontiers against brute force, interpolation on known answers, and the order of the arms."""

import numpy as np
import pytest

from lgsid_ray.evaluate.alignment import frontier_rows, gaps, retrieval_tables
from lgsid_ray.evaluate.frontiers import aligned, interpolate, late_fusion, oracle
from lgsid_ray.evaluate.gap import at_floor, compare, gap_closed
from lgsid_ray.evaluate.retrieval import search
from lgsid_ray.evaluate.space import draw_queries

K = 5


def ranking(scores: np.ndarray, query: int) -> list[int]:
    others = [item for item in range(len(scores)) if item != query]
    return sorted(others, key=lambda item: -scores[item])[:K]


def point(similarity: float, district: float, knob: float = 0.0) -> dict[str, float]:
    return {"knob": knob, "similarity": similarity, "province": 1.0, "city": 0.5, "district": district}


def test_oracle_re_ranks_the_whole_catalogue(space):
    queries, gammas = np.arange(0, 240, 7), (0.0, 0.05, 0.3, 4.0)
    arm = oracle(space, queries, K, gammas)
    for position, gamma in enumerate(gammas):
        for row, query in enumerate(queries):
            same = space.labels[:, 2] == space.labels[query, 2]
            scores = space.reference @ space.reference[query] + gamma * same
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


def test_strong_late_fusion_returns_the_nearest_places(space):
    queries = np.arange(40)
    arm = late_fusion(space, queries, K, (1e6,))
    for row, query in enumerate(queries):
        nearest = np.argsort(np.linalg.norm(space.xyz - space.xyz[query], axis=1))[1 : K + 1]
        assert set(arm.found[0, row]) == set(nearest)


def test_every_arm_begins_at_origin_and_alpha_one_is_the_model(space):
    queries = np.arange(60)
    origin = search(space.reference, queries, K)
    for arm in (oracle(space, queries, K), late_fusion(space, queries, K), aligned(space, queries, K)):
        assert arm.knobs[0] == 0.0
        assert (arm.found[0] == origin).all()
    arm = aligned(space, queries, K)
    assert (arm.found[arm.knobs.index(1.0)] == search(space.aligned, queries, K)).all()


def test_interpolation_is_normalised_and_survives_opposites():
    ahead, back = np.array([[1.0, 0.0]], np.float32), np.array([[-1.0, 0.0]], np.float32)
    assert interpolate(ahead, back, 0.5).tolist() == [[0.0, 0.0]]
    mixed = interpolate(ahead, np.array([[0.0, 1.0]], np.float32), 0.5)
    np.testing.assert_allclose(mixed, [[0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_the_floor_is_read_between_points():
    found = at_floor([point(1.0, 0.2, 0.0), point(0.9, 0.6, 1.0), point(0.5, 0.8, 2.0)], 0.95)
    assert found["district"] == pytest.approx(0.4)
    assert found["knob"] == pytest.approx(0.5)
    assert found["similarity"] == pytest.approx(0.95)
    assert found["reached"]


def test_a_frontier_that_doubles_back_gives_its_best():
    points = [point(1.0, 0.2), point(0.9, 0.3), point(0.98, 0.7), point(0.9, 0.6)]
    assert at_floor(points, 0.95)["district"] == pytest.approx(0.7)


def test_an_arm_that_stays_above_the_floor_is_not_extrapolated():
    found = at_floor([point(1.0, 0.2), point(0.99, 0.4)], 0.95)
    assert found["district"] == 0.4
    assert not found["reached"]


def test_gap_closed_is_one_for_the_oracle_and_zero_for_origin():
    line = [point(1.0, 0.2), point(0.8, 0.9)]
    found = compare({"oracle": line, "same": line, "idle": [point(1.0, 0.2)] * 2}, 0.9)
    assert found["gap_closed"] == {"same": pytest.approx(1.0), "idle": 0.0}
    assert found["arms"]["idle"]["reached"] is False
    assert gap_closed(0.4, 0.4, 0.4) is None


def test_no_arm_lies_above_the_oracle(space):
    queries = draw_queries(np.array(["train"] * 160 + ["held_place"] * 80), 100, 0)
    rows = frontier_rows(space, queries)
    for floor in (0.9, 0.97, 0.99):
        for found in gaps(space, rows, list(queries.groups), floor).values():
            # The oracle's line is read between steps of γ, hence the hair's breadth.
            assert 0 < found["gap_closed"]["aligned"] < 1.01
            assert 0 <= found["gap_closed"]["late_fusion"] < 1.01


def test_one_item_one_district_and_few_items_give_reasons(space):
    few = type(space)(space.reference[:3], space.labels[:3], space.xyz[:3])
    queries = draw_queries(np.array(["train"] * 3), 10, 0)
    assert gaps(few, frontier_rows(few, queries), ["all"], 0.97)["all"]["reason"].startswith("too few items")
    rows = retrieval_tables(few, queries, [2, 5])
    assert [row["district"] is None for row in rows if row["group"] == "all"] == [False, True]
    one = type(space)(space.reference, np.zeros_like(space.labels), space.xyz)
    queries = draw_queries(np.array(["train"] * 240), 10, 0)
    found = gaps(one, frontier_rows(one, queries), ["all"], 0.97)["all"]
    assert found["gap_closed"] == {"late_fusion": None}
    assert "no gap" in found["reason"]
