"""Frontiers against brute force, interpolation on known answers, and the order of the arms."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from lgsid_ray.artifacts.frontier import ARMS
from lgsid_ray.artifacts.fusion import Fusion
from lgsid_ray.evaluate.alignment import Line, Retrieved, gaps, lines, retrieval_tables, retrieve
from lgsid_ray.evaluate.frontiers import Arm, aligned, arms, content_oracle, label_fusion, late_fusion, oracle
from lgsid_ray.evaluate.retrieval import answer
from lgsid_ray.evaluate.space import Corpus, Queries, draw_queries
from lgsid_ray.geo.distance import haversine_km
from tests.evaluate.conftest import corpus_of

K = 5


def retrieved(space, queries: np.ndarray, make, **knobs) -> np.ndarray:
    """(knobs, q, K) what an arm finds."""
    found = answer(space, space.rows(queries), {"it": partial(make, **knobs) if knobs else make}, {"it": K})
    return found.found["it"].item


def judged(corpus: Corpus, queries: Queries, ks=(5,)) -> tuple[Retrieved, dict[str, Line]]:
    found = retrieve(corpus, queries, ks)
    return found, lines(corpus, queries, found)


def ranking(scores: np.ndarray, query: int) -> list[int]:
    others = [item for item in range(len(scores)) if item != query]
    return sorted(others, key=lambda item: -scores[item])[:K]


@pytest.mark.parametrize(("make", "kept"), [(oracle, "reference"), (content_oracle, "content")])
def test_an_oracle_re_ranks_the_whole_catalogue(space, make, kept):
    queries, gammas, vectors = np.arange(0, 240, 7), (0.0, 0.05, 0.3, 4.0), getattr(space, kept)
    found = retrieved(space, queries, make, knobs=gammas)
    for position, gamma in enumerate(gammas):
        for row, query in enumerate(queries):
            same = space.labels[:, 2] == space.labels[query, 2]
            scores = vectors @ vectors[query] + gamma * same
            assert found[position, row].tolist() == ranking(scores, query)


def test_late_fusion_is_the_cosine_of_the_concatenation(space):
    queries, weights = np.arange(0, 240, 7), (0.0, 0.5, 5.0, 100.0)
    found = retrieved(space, queries, late_fusion, knobs=weights)
    for position, weight in enumerate(weights):
        joined = np.concatenate([space.reference.astype(np.float64), weight * space.xyz], axis=1)
        for row, query in enumerate(queries):
            scores = joined @ joined[query] / (1 + weight**2)
            chosen = scores[found[position, row]]
            np.testing.assert_allclose(chosen, scores[ranking(scores, query)], rtol=0, atol=1e-9)


def kilometres(space, query: int) -> np.ndarray:
    lat, lon = np.degrees(np.arcsin(space.xyz[:, 2])), np.degrees(np.arctan2(space.xyz[:, 1], space.xyz[:, 0]))
    return haversine_km(lat, lon, lat[query], lon[query])


def levels_shared(space, query: int) -> np.ndarray:
    return (space.labels == space.labels[query]) @ np.array([0.25, 0.5, 1.0])


@pytest.mark.parametrize(
    ("name", "bonus"),
    [
        ("levels", levels_shared),
        ("distance_kernel", lambda space, query: np.exp(-kilometres(space, query) / 5)),
        ("log_distance", lambda space, query: -np.log1p(kilometres(space, query))),
    ],
)
def test_a_bonus_is_added_to_the_cosine(corpus, space, name, bonus):
    queries, arm = np.arange(0, 240, 7), arms(corpus)[name]
    found = retrieved(space, queries, arm.make)
    for position, knob in enumerate(arm.knobs):
        for row, query in enumerate(queries):
            scores = space.reference.astype(np.float64) @ space.reference[query] + knob * bonus(space, query)
            chosen = scores[found[position, row]]
            np.testing.assert_allclose(chosen, scores[ranking(scores, query)], rtol=0, atol=1e-6)


def test_label_fusion_finds_who_shares_labels_without_asking_whose_they_are(space):
    queries = np.arange(60)
    weights = (0.0, 0.1, 2.0)
    strong = retrieved(space, queries, label_fusion, knobs=weights)[-1]
    assert (space.labels[strong, 2] == space.labels[queries, 2][:, None]).mean() > 0.85
    unknown = replace(space, labels=np.full_like(space.labels, -1))
    assert (retrieved(unknown, queries, label_fusion, knobs=weights) == by_loop(space.reference, queries)).all()


def by_loop(vectors: np.ndarray, queries: np.ndarray) -> list[list[int]]:
    """(q, K) the nearest."""
    return [ranking(vectors @ vectors[query], query) for query in queries]


def check_mixture(space, queries: np.ndarray, arm: Arm, added: np.ndarray) -> None:
    """That the arm retrieves by normalise(E_ref + w·added)."""
    found = retrieved(space, queries, arm.make)
    for position, weight in enumerate(arm.knobs):
        mixed = space.reference.astype(np.float64) + weight * added
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        for row, query in enumerate(queries):
            scores = mixed @ mixed[query]
            chosen = scores[found[position, row]]
            np.testing.assert_allclose(chosen, scores[ranking(scores, query)], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["text_fusion", "whitened_fusion", "whitened_all"])
def test_text_fusion_puts_a_text_into_every_embedding(corpus, space, name):
    texts = corpus.texts
    told = texts.embedded.astype(np.float64)
    if name != "text_fusion":
        fitted_to = texts.embedded[texts.trained] if name == "whitened_fusion" else texts.embedded
        told = Fusion.fitted(fitted_to, 0.0).directions(texts.embedded).astype(np.float64)
    added = np.where(space.said[:, None] >= 0, told[space.said], 0)
    check_mixture(space, np.arange(0, 240, 7), arms(corpus)[name], added)


def test_strong_late_fusion_returns_the_nearest_places(space):
    queries = np.arange(40)
    found = retrieved(space, queries, late_fusion, knobs=(1e6,))
    for row, query in enumerate(queries):
        nearest = np.argsort(np.linalg.norm(space.xyz - space.xyz[query], axis=1))[1 : K + 1]
        assert set(found[0, row]) == set(nearest)


def test_every_arm_begins_at_origin_and_alpha_one_is_the_model(corpus, space):
    queries, found = np.arange(60), arms(corpus)
    assert set(found) == set(ARMS)
    for name, arm in found.items():
        assert arm.knobs[0] == 0.0
        begins = space.content if name == "content_oracle" else space.reference
        assert (retrieved(space, queries, arm.make)[0] == by_loop(begins, queries)).all(), name
    model = retrieved(space, queries, aligned, knobs=(1.0,))[0]
    assert (model == by_loop(space.aligned, queries)).all()


def test_between_reference_and_policy_lies_their_normalised_mixture(space):
    queries, alphas = np.arange(0, 240, 7), (0.3, 1.7)
    check_mixture(space, queries, Arm(alphas, partial(aligned, knobs=alphas)), space.aligned - space.reference)


def test_content_fusion_is_what_and_where_beside_the_whole(corpus, space):
    texts = corpus.texts
    told = Fusion.fitted(texts.embedded[texts.trained], 0.0).directions(texts.embedded)
    beside = space.content + np.where(space.said[:, None] >= 0, told[space.said], 0)
    check_mixture(space, np.arange(0, 240, 7), arms(corpus)["content_fusion"], beside)


def test_no_arm_lies_above_its_oracle(corpus):
    queries = draw_queries(np.array(["train"] * 160 + ["held_place"] * 80), 100, 0)
    found = judged(corpus, queries)
    for floor in (0.9, 0.97, 0.99):
        told = gaps(corpus, queries, *found, floor, 0)
        # The oracles' lines are read between steps of γ, hence the hair's breadth.
        for kind in ("frontier", "content_frontier"):
            for group in told[kind].values():
                assert 0 < group["gap_closed"]["aligned"] < 1.01
                assert all(closed < 1.01 for closed in group["gap_closed"].values() if closed is not None)


def test_a_floor_of_all_meaning_is_read_at_origin(corpus):
    queries = draw_queries(np.array(["train"] * 240), 100, 0)
    found = gaps(corpus, queries, *judged(corpus, queries), 1.0, 0)["frontier"]["all"]
    assert all(closed is None or closed >= 0 for closed in found["gap_closed"].values())


def test_a_saved_space_is_read_at_what_it_keeps(corpus, space):
    queries = draw_queries(np.array(["train"] * 240), 240, 0)
    found = judged(corpus, queries)
    kept = gaps(corpus, queries, *found, 0.97, 0)["saved"]["all"]["aligned"]
    at_that = gaps(corpus, queries, *found, kept["kept"], 0)["frontier"]["all"]
    assert kept["gap_closed"] == pytest.approx(at_that["gap_closed"])
    assert kept["point"]["knob"] == 1.0
    assert kept["saved_interval"][0] < kept["saved"] < kept["saved_interval"][1]
    same = corpus_of(replace(space, aligned=space.reference), corpus.texts)
    origin = gaps(same, queries, retrieve(same, queries, [5]), found[1], 0.97, 0)["saved"]["all"]["aligned"]
    assert origin["kept"] == pytest.approx(1.0)
    assert not origin["saved"]


def test_one_item_one_district_and_few_items_give_reasons(space):
    plain = replace(space, aligned=None, content=None, said=None)
    few = corpus_of(plain.rows(slice(0, 3)))
    queries = draw_queries(np.array(["train"] * 3), 10, 0)
    found = judged(few, queries, [2, 5])
    assert gaps(few, queries, *found, 0.97, 0)["frontier"]["all"]["reason"].startswith("too few items")
    rows = retrieval_tables(few, queries, found[0], [2, 5])
    assert [row["district"] is None for row in rows if row["group"] == "all"] == [False, True]
    one = corpus_of(replace(plain, labels=np.zeros_like(space.labels)))
    queries = draw_queries(np.array(["train"] * 240), 10, 0)
    told = gaps(one, queries, *judged(one, queries), 0.97, 0)["frontier"]["all"]
    assert set(told["gap_closed"].values()) == {None}
    assert "no gap" in told["reason"]
