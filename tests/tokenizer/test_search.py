"""Beam search for tokens: a plain loop's, the best of all SIDs where it is wide, the same in any batch."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from lgsid_ray.tokenizer.levels import Level, on_embeddings, walk
from lgsid_ray.tokenizer.search import tokens_of

SIZES = (5, 4, 6)


def gauss(rows: int, dimension: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def levels(priced: bool) -> list[Level]:
    return [on_embeddings(gauss(k, 3, k), np.abs(gauss(k, 1, k)[:, 0]) if priced else None) for k in SIZES]


def cost(row: np.ndarray, chosen: list[Level], way: tuple[int, ...]) -> float:
    left = row.astype(np.float64) - sum(
        level.centres[code].astype(np.float64) for level, code in zip(chosen, way, strict=False)
    )
    paid = sum(level.price[code] for level, code in zip(chosen, way, strict=False) if level.price is not None)
    return float(np.square(left).sum() + paid)


@pytest.mark.parametrize("priced", [False, True])
@pytest.mark.parametrize("beam", [1, 2, 3, 8])
def test_the_search_is_a_plain_loop(priced: bool, beam: int) -> None:
    rows, deep = gauss(60, 3, 0) * 2, levels(priced)
    expected = []
    for row in rows:
        kept: list[tuple[int, ...]] = [()]
        for number, level in enumerate(deep):
            ways = [(*way, code) for way in kept for code in range(level.size)]
            kept = sorted(ways, key=lambda way: cost(row, deep, way))[: 1 if number == len(deep) - 1 else beam]
        expected.append(kept[0])
    assert tokens_of(deep, rows, beam=beam).tolist() == [list(way) for way in expected]


def test_a_beam_of_one_is_the_walk() -> None:
    rows, deep = gauss(3000, 3, 0), levels(priced=True)
    walked = np.column_stack([label for label, _ in walk(deep, rows)])
    assert np.array_equal(tokens_of(deep, rows), walked)


@pytest.mark.parametrize("priced", [False, True])
def test_a_beam_of_all_prefixes_finds_the_cheapest_of_all_sids(priced: bool) -> None:
    rows, deep = gauss(40, 3, 1) * 2, levels(priced)
    every = list(itertools.product(*map(range, SIZES)))
    best = [min(every, key=lambda way, row=row: cost(row, deep, way)) for row in rows]  # type: ignore[misc]
    assert tokens_of(deep, rows, beam=64).tolist() == [list(way) for way in best]
    greedy = tokens_of(deep, rows)
    assert [list(way) for way in best] != greedy.tolist()


def test_features_and_angles_in_front_take_the_nearest_code() -> None:
    rows, features, deep = gauss(200, 3, 0), gauss(200, 2, 1), levels(priced=False)
    place = Level("features", gauss(7, 2, 2), gauss(7, 3, 3))
    angle = replace(deep[0], metric="cosine")
    found = tokens_of([place, angle, *deep[1:]], rows, features, beam=8)
    front = list(walk([place, angle], rows, features))
    assert np.array_equal(found[:, :2], np.column_stack([label for label, _ in front]))
    assert np.array_equal(found[:, 2:], tokens_of(deep[1:], front[-1][1], beam=8))


def test_an_item_has_the_same_tokens_in_any_batch_and_of_equals_the_first() -> None:
    # Rows and codes on a grid, every code there twice: almost every choice is between equals.
    rng = np.random.default_rng(0)
    rows = rng.integers(-3, 4, (500, 3)).astype(np.float32) / 3
    deep = [on_embeddings(np.tile(rng.integers(-2, 3, (5, 3)), (2, 1)).astype(np.float32) / (3 + n)) for n in range(3)]
    whole = tokens_of(deep, rows, beam=4)
    assert (whole < 5).all()
    alone = np.concatenate([tokens_of(deep, rows[n : n + 1], beam=4) for n in range(len(rows))])
    some = np.concatenate([tokens_of(deep, part, beam=4) for part in np.array_split(rows, 7)])
    assert np.array_equal(whole, alone)
    assert np.array_equal(whole, some)
