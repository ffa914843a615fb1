"""Exact search and P/C/T@K against loops and known answers."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from lgsid_ray.artifacts.labels import path_codes
from lgsid_ray.evaluate import retrieval
from lgsid_ray.evaluate.retrieval import judge, mean, search, search_plainly, top_k
from lgsid_ray.evaluate.space import FEWEST, MOST, PAIRS, Space, affordable, draw_queries


def one_hot_space(labels: np.ndarray, vectors: np.ndarray) -> Space:
    return Space(vectors.astype(np.float32), labels, np.tile([1.0, 0.0, 0.0], (len(labels), 1)))


def loop_search(vectors: np.ndarray, query: int, k: int) -> list[int]:
    scores = vectors @ vectors[query]
    others = [item for item in range(len(vectors)) if item != query]
    return sorted(others, key=lambda item: (-scores[item], item))[:k]


@pytest.mark.parametrize("finds", [search, search_plainly])
@pytest.mark.parametrize("block", [1, 200, 1 << 24])
def test_search_is_brute_force_with_ties_to_the_lower_index(monkeypatch, block, finds):
    monkeypatch.setattr(retrieval, "BLOCK", block)
    # Small integers: products are exact, and there are ties everywhere.
    vectors = np.random.default_rng(1).integers(-2, 3, (120, 3)).astype(np.float32)
    queries = np.arange(0, 120, 3)
    found = finds(vectors, queries, 7)
    assert found.tolist() == [loop_search(vectors, query, 7) for query in queries]


def twins(rng: np.random.Generator) -> np.ndarray:
    """400 unit vectors: half of them once, the others in groups of 20 that are equal, or that differ by rounding."""
    vectors = rng.normal(size=(400, 64))
    vectors[200:300] = np.repeat(vectors[:5], 20, axis=0)
    vectors[300:] = np.repeat(vectors[5:10], 20, axis=0) * (1 + 1e-8 * rng.normal(size=(100, 64)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[rng.permutation(400)].astype(np.float32)


@pytest.mark.parametrize("k", [1, 5, 30, 398, 399])
def test_faiss_finds_what_the_plain_search_finds_twins_and_near_ties_too(k):
    vectors = twins(np.random.default_rng(0))
    queries = np.arange(0, 400, 3)
    found = search(vectors, queries, k)
    assert not (found == queries[:, None]).any()
    assert (found == search_plainly(vectors, queries, k)).all()


def test_a_vector_that_cancelled_out_is_no_neighbour_of_itself():
    vectors = np.eye(4, dtype=np.float32) * [[0], [1], [1], [1]]
    assert search(vectors.astype(np.float32), np.array([0, 1]), 2).tolist() == [[1, 2], [0, 2]]


def test_top_k_of_equal_scores_takes_the_first():
    columns, values = top_k(torch.zeros(2, 50), 5)
    assert columns.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert not values.any()


@pytest.mark.parametrize("values", [1, 2, 5, 1000])
def test_top_k_with_ties_against_a_sort(values):
    rng = np.random.default_rng(values)
    scores = torch.tensor(rng.integers(0, values, (200, 60)).astype(np.float32))
    columns, best = top_k(scores, 7)
    expected = np.argsort(-scores.numpy(), axis=1, kind="stable")[:, :7]
    assert np.array_equal(columns, expected)
    assert np.array_equal(best, np.take_along_axis(scores.numpy(), expected, axis=1))


@pytest.mark.parametrize("items", [10, 3000, 8004, 30_000, 10_000_000])
def test_queries_are_as_many_as_can_be_paired_with_all_items(items):
    sizes = [items * 6 // 10, items // 10, items // 10, items - items * 6 // 10 - 2 * (items // 10)]
    count = affordable(sizes)
    assert FEWEST <= count <= MOST

    def pairs(count):
        return sum(min(count, size) for size in sizes) * items

    assert count == FEWEST or pairs(count) <= PAIRS
    assert count == MOST or pairs(count + 1) > PAIRS
    split = np.repeat(["train", "held_city", "held_place", "held_random"], sizes)
    if items < 10_000:
        assert np.array_equal(draw_queries(split, "auto", 0).items, draw_queries(split, count, 0).items)


def test_perfect_geography_scores_one():
    district = np.repeat(np.arange(10), 8)
    labels = np.stack([district // 5, district // 2, district], axis=1)
    space = one_hot_space(labels, np.eye(10)[district])
    values = judge(space, np.arange(80), search(space.reference, np.arange(80), 7), [5, 7])
    for row in values:
        assert mean(row["district"]) == mean(row["city"]) == mean(row["similarity"]) == 1.0


def test_random_embeddings_score_chance():
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(4), 500)[:, None] * [1, 1, 1]
    vectors = rng.normal(size=(2000, 16))
    space = one_hot_space(labels, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    queries = np.arange(2000)
    value = mean(judge(space, queries, search(space.reference, queries, 10), [10])[0]["district"])
    assert value == pytest.approx(499 / 1999, abs=0.02)


def test_similarity_is_measured_in_the_reference_space(space):
    queries = np.arange(50)
    found = search(space.aligned, queries, 5)
    values = judge(space, queries, found, [3])[0]
    by_loop = [np.mean([space.reference[q] @ space.reference[item] for item in found[q, :3]]) for q in queries]
    np.testing.assert_allclose(values["similarity"], by_loop, atol=1e-6)
    by_loop = [np.mean([space.content[q] @ space.content[item] for item in found[q, :3]]) for q in queries]
    np.testing.assert_allclose(values["content_similarity"], by_loop, atol=1e-6)


def test_names_recur_but_paths_do_not_and_null_matches_nothing():
    province = ["Illinois", "Missouri", "Illinois", None, "Illinois"]
    city = ["Springfield", "Springfield", "Springfield", "Springfield", None]
    codes = path_codes(pa.table({"province": province, "city": city, "district": city}))
    assert codes[0].tolist() == codes[2].tolist() != codes[1].tolist()
    assert codes[0, 1] != codes[1, 1]
    assert codes[3].tolist() == [-1, -1, -1]
    assert codes[4, 0] == codes[0, 0]
    assert codes[4, 1] == codes[4, 2] == -1
    space = one_hot_space(codes, np.ones((5, 2)))
    value = judge(space, np.array([0, 4]), np.array([[2, 4], [0, 2]]), [2])[0]["district"]
    assert value[0] == 0.5
    assert np.isnan(value[1])


def test_queries_are_the_groups_items_and_all_costs_nothing_more():
    split = np.array(["train"] * 60 + ["held_place"] * 20 + ["held_random"] * 20)
    queries = draw_queries(split, 25, seed=4)
    assert {name: int(rows.sum()) for name, rows in queries.groups.items()} == {
        "all": 25,
        "train": 25,
        "held_place": 20,
        "held_random": 20,
    }
    assert len(queries.items) == 65
    for name in ("train", "held_place", "held_random"):
        assert set(split[queries.items[queries.groups[name]]]) == {name}
    assert draw_queries(split, 25, seed=4).items.tolist() == queries.items.tolist()
    assert draw_queries(split, 25, seed=5).items.tolist() != queries.items.tolist()
