"""Exact search and P/C/T@K against loops and known answers."""

from functools import partial, reduce
from operator import add

import numpy as np
import pyarrow as pa
import pytest
import torch

from lgsid_ray.artifacts.labels import path_codes
from lgsid_ray.evaluate import retrieval
from lgsid_ray.evaluate.alignment import retrieve
from lgsid_ray.evaluate.frontiers import arms
from lgsid_ray.evaluate.retrieval import NOBODY, Found, answer, by_cosine, judge, mean, top_k
from lgsid_ray.evaluate.space import FEWEST, MOST, PAIRS, Corpus, Queries, Space, affordable, draw_queries
from tests.evaluate.conftest import corpus_of


def bare(vectors: np.ndarray, labels: np.ndarray | None = None) -> Space:
    known = np.zeros((len(vectors), 3), np.int64) if labels is None else labels
    return Space(np.arange(len(vectors)), known, vectors.astype(np.float32))


def search(corpus: Corpus, queries: np.ndarray, k: int, space: str = "origin") -> Found:
    makers = {"it": partial(by_cosine, space=space, k=k)}
    asked = corpus.of(queries)
    parts = [answer(part.read(), asked, makers, {"it": k}) for part in corpus.parts]
    return reduce(add, parts).found["it"]


def loop_search(vectors: np.ndarray, query: int, k: int) -> list[int]:
    scores = vectors @ vectors[query]
    others = [item for item in range(len(vectors)) if item != query]
    return sorted(others, key=lambda item: (-scores[item], item))[:k]


@pytest.mark.parametrize("parts", [1, 2, 7, 120])
@pytest.mark.parametrize("block", [1, 200, 1 << 24])
def test_search_is_brute_force_with_ties_to_the_lower_index(monkeypatch, block, parts):
    monkeypatch.setattr(retrieval, "BLOCK", block)
    # Small integers: products are exact, and there are ties everywhere.
    vectors = np.random.default_rng(1).integers(-2, 3, (120, 3)).astype(np.float32)
    queries = np.arange(0, 120, 3)
    found = search(corpus_of(bare(vectors), parts=parts), queries, 7)
    assert found.item[0].tolist() == [loop_search(vectors, query, 7) for query in queries]
    expected = np.take_along_axis(vectors[queries] @ vectors.T, found.item[0], axis=1)
    assert np.array_equal(found.score[0], expected)
    assert np.array_equal(found.similarity[0], expected)
    assert found.content is None


def test_in_other_spaces_what_is_found_is_compared_in_the_reference_space_too(space):
    queries = np.arange(0, 240, 5)
    found = search(corpus_of(space, parts=3), queries, 6, "aligned")
    for row, query in enumerate(queries):
        assert found.item[0, row].tolist() == loop_search(space.aligned, query, 6)
        for told, vectors in ((found.score, space.aligned), (found.similarity, space.reference)):
            np.testing.assert_allclose(told[0, row], vectors[found.item[0, row]] @ vectors[query], atol=1e-6)
        np.testing.assert_allclose(
            found.content[0, row], space.content[found.item[0, row]] @ space.content[query], atol=1e-6
        )


def test_every_arm_finds_the_same_in_one_part_and_in_many(corpus, space):
    queries, makers = np.arange(0, 240, 3), {name: arm.make for name, arm in arms(corpus).items()}
    asked, sizes = space.rows(queries), dict.fromkeys(makers, 5)
    whole = answer(space, asked, makers, sizes)
    for parts in (2, 5, 80):
        cut = [answer(part.read(), asked, makers, sizes) for part in corpus_of(space, parts=parts).parts]
        merged = reduce(add, cut)
        for name, found in whole.found.items():
            assert found.item.shape[1:] == (80, 5)
            other = merged.found[name]
            np.testing.assert_allclose(other.score, found.score, rtol=1e-6, atol=2e-6, err_msg=name)
            same = other.item == found.item
            assert same.mean() > 0.999, name  # rounding may exchange two that are equal but for it
            for one, another in ((other.similarity, found.similarity), (other.content, found.content)):
                np.testing.assert_allclose(one[same], another[same], atol=1e-6, err_msg=name)
            assert not (found.item == queries[None, :, None]).any()


def test_who_is_not_there_is_nobody():
    vectors = np.eye(3, dtype=np.float32)
    found = search(corpus_of(bare(vectors), parts=3), np.array([1]), 5)
    assert found.item[0].tolist() == [[0, 2, NOBODY, NOBODY, NOBODY]]
    assert np.isneginf(found.score[0, 0, 2:]).all()


def test_a_vector_that_cancelled_out_is_no_neighbour_of_itself():
    vectors = np.eye(4, dtype=np.float32) * [[0], [1], [1], [1]]
    assert search(corpus_of(bare(vectors)), np.array([0, 1]), 2).item[0].tolist() == [[1, 2], [0, 2]]


@pytest.mark.parametrize("parts", [1, 4])
def test_rows_of_a_catalogue_are_those_asked_for(corpus, space, parts):
    index = np.array([0, 3, 59, 60, 61, 239])
    found = corpus_of(space, corpus.texts, parts).of(index)
    for name, expected in vars(space.rows(index)).items():
        assert (vars(found)[name] is None) == (expected is None)
        assert expected is None or np.array_equal(vars(found)[name], expected), name
    assert len(corpus.of(np.empty(0, np.int64))) == 0


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
    found = search(corpus_of(bare(np.eye(10)[district], labels)), np.arange(80), 7)
    (values,) = judge(labels, np.arange(80), found, [5, 7])
    for row in values:
        assert mean(row["district"]) == mean(row["city"]) == mean(row["similarity"]) == 1.0


def test_random_embeddings_score_chance():
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(4), 500)[:, None] * [1, 1, 1]
    vectors = rng.normal(size=(2000, 16))
    corpus = corpus_of(bare(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels))
    queries = np.arange(2000)
    value = mean(judge(labels, queries, search(corpus, queries, 10), [10])[0][0]["district"])
    assert value == pytest.approx(499 / 1999, abs=0.02)


def test_similarity_is_measured_in_the_reference_space(corpus, space):
    queries = np.arange(50)
    found = retrieve(corpus, Queries(queries, {}), [5]).spaces["aligned"]
    values, items = judge(space.labels, queries, found, [3])[0][0], found.item[0]
    by_loop = [np.mean([space.reference[q] @ space.reference[item] for item in items[q, :3]]) for q in queries]
    np.testing.assert_allclose(values["similarity"], by_loop, atol=1e-6)
    by_loop = [np.mean([space.content[q] @ space.content[item] for item in items[q, :3]]) for q in queries]
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
    nothing = np.zeros((1, 2, 2), np.float32)
    found = Found(np.array([[[2, 4], [0, 2]]]), nothing, nothing, None)
    value = judge(codes, np.array([0, 4]), found, [2])[0][0]["district"]
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
