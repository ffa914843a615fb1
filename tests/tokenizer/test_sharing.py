"""Last tokens shared out: unique where the codes suffice, at the least error, and no more crowded than they must be."""

from itertools import permutations, product

import numpy as np
import pytest

from lgsid_ray.tokenizer.levels import Level, on_embeddings, walk
from lgsid_ray.tokenizer.sharing import share_out, shared_levels


def levels(*sizes: int, dimension: int = 6, seed: int = 0) -> list[Level]:
    rng = np.random.default_rng(seed)
    return [
        on_embeddings((rng.standard_normal((size, dimension)) / 3**n).astype(np.float32))
        for n, size in enumerate(sizes)
    ]


def chosen(some: list[Level], left: np.ndarray) -> np.ndarray:
    return np.stack([label for label, _ in walk(some, left)], axis=1).astype(np.int32)


def error(some: list[Level], left: np.ndarray, tokens: np.ndarray) -> float:
    decoded = sum(level.centres[tokens[:, place]] for place, level in enumerate(some))
    return float(np.square(left - decoded, dtype=np.float64).sum())


def rows(count: int, dimension: int = 6, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def most(tokens: np.ndarray) -> int:
    return int(np.unique(tokens, axis=0, return_counts=True)[1].max())


@pytest.mark.parametrize("seed", range(20))
def test_one_prefix_shares_its_codes_at_the_least_error(seed: int) -> None:
    some, left = levels(5, seed=seed), rows(4, seed=seed)
    shared = share_out(some, left, chosen(some, left))
    best = min(error(some, left, np.array(one)[:, None]) for one in permutations(range(5), 4))
    assert most(shared) == 1
    assert error(some, left, shared) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_with_two_levels_it_stays_near_the_least_error_there_is(seed: int) -> None:
    some, left = levels(2, 2, seed=seed), rows(4, seed=seed)
    shared = share_out(some, left, chosen(some, left))
    codes = list(product(range(2), range(2)))
    every = [error(some, left, np.array(one)) for one in permutations(codes)]
    assert most(shared) == 1
    # The two levels are settled one after the other, so the least of all is not promised.
    assert error(some, left, shared) < np.mean(every)


def test_what_is_unique_already_stays_as_it_was() -> None:
    some = levels(6, 8)
    codes = np.stack(np.unravel_index(np.random.default_rng(0).permutation(48)[:30], (6, 8)), axis=1).astype(np.int32)
    left = some[0].centres[codes[:, 0]] + some[1].centres[codes[:, 1]]
    assert np.array_equal(share_out(some, left, codes), codes)


@pytest.mark.parametrize("count", [1, 7, 31, 32, 33, 64, 100])
def test_no_sid_has_more_items_than_it_must(count: int) -> None:
    some = levels(4, 8)
    left = rows(count) * 0.1 + some[0].centres[1]  # nearly all of them choose one prefix
    shared = share_out(some, left, chosen(some, left))
    assert most(shared) == -(-count // 32)
    assert shared.min() >= 0
    assert (shared < [4, 8]).all()


def test_those_stay_in_a_crowded_prefix_that_lose_most_by_leaving() -> None:
    near, far = (
        on_embeddings(np.array([[0.0], [10.0]], np.float32)),
        on_embeddings(np.array([[-0.5], [0.5]], np.float32)),
    )
    left = np.array([[-1.0], [4.0], [0.0], [1.0]], np.float32)  # all choose 0; 4 and then 1 have the shortest way to 10
    shared = share_out([near, far], left, chosen([near, far], left))
    assert shared[:, 0].tolist() == [0, 1, 0, 1]
    assert most(shared) == 1


def test_items_alike_are_told_apart_in_the_order_of_their_rows() -> None:
    some = levels(1, 4)
    left = np.repeat(rows(1), 3, axis=0)
    shared = share_out(some, left, chosen(some, left))
    by_distance = np.argsort(np.square(left[0] - some[0].centres[0] - some[1].centres).sum(axis=1))
    assert shared[:, 1].tolist() == by_distance[:3].tolist()


@pytest.mark.parametrize(("sizes", "count"), [((3,), 0), ((3, 4), 1), ((3, 4, 5), 2), ((3, 4, 5, 6), 2)])
def test_the_first_level_never_moves(sizes: tuple[int, ...], count: int) -> None:
    assert shared_levels(levels(*sizes)) == count
