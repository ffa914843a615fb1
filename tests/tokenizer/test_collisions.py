"""Collision ranks by popularity, then item_id, never by row; and the table SID → items."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lgsid_ray.artifacts.keys import pack_sids
from lgsid_ray.tokenizer.collisions import collision_ranks, inverse_parts, sid_order

ITEMS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40)


def ids(count: int) -> pa.ChunkedArray:
    """Distinct keys whose order is not that of the rows; in chunks, as they come from parts."""
    names = [f"i{row * 7919 % 1000:03d}" for row in range(count)]
    return pa.chunked_array([names[: count // 2], names[count // 2 :]], pa.string())


def ranks(codes: np.ndarray, popularity: np.ndarray, item_id: pa.ChunkedArray) -> list[int]:
    return collision_ranks(codes, sid_order(codes, popularity, item_id)).tolist()


@given(ITEMS)
def test_ranks_against_a_loop(rows: list[tuple[int, int]]) -> None:
    item_id = ids(len(rows))
    sharing = defaultdict(list)
    for (code, popularity), name in zip(rows, item_id.to_pylist(), strict=True):
        sharing[code].append((-popularity, name))
    expected = [
        sorted(sharing[code]).index((-popularity, name))
        for (code, popularity), name in zip(rows, item_id.to_pylist(), strict=True)
    ]
    assert ranks(*np.array(rows).T.copy(), item_id) == expected


@given(ITEMS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_plays_no_part(rows: list[tuple[int, int]], random: object) -> None:
    codes, popularity = np.array(rows).T.copy()
    item_id = ids(len(rows))
    order = np.random.default_rng(random.randint(0, 2**32)).permutation(len(rows))  # type: ignore[attr-defined]
    moved = ranks(codes[order], popularity[order], item_id.take(pa.array(order)))
    assert moved == [ranks(codes, popularity, item_id)[row] for row in order]


def test_an_item_keeps_its_rank_when_others_are_added_before_it() -> None:
    codes, popularity = np.array([5, 5, 2, 5]), np.array([1, 9, 0, 1])
    item_id = pa.chunked_array([["b", "c", "d", "a"]])
    assert ranks(codes, popularity, item_id) == [2, 0, 0, 1]
    # Items of other SIDs, and a less popular one of the same.
    more = pa.chunked_array([["x", "y", "z", *item_id.to_pylist()]])
    assert ranks(np.r_[7, 2, 5, codes], np.r_[50, 50, 0, popularity], more)[3:] == [2, 0, 1, 1]
    assert ranks(np.r_[7, 1, 5, codes], np.r_[50, 50, 0, popularity], more)[3:] == [2, 0, 0, 1]


@given(ITEMS, st.integers(1, 12))
def test_the_inverse_lists_every_item_once_under_its_sid_by_rank(rows: list[tuple[int, int]], size: int) -> None:
    codes, popularity = np.array(rows).T.copy()
    tokens, item_id = np.stack([codes // 2, codes % 2], axis=1).astype(np.int32), ids(len(rows))
    assert np.array_equal(pack_sids(tokens, [3, 2]), codes)
    order = sid_order(codes, popularity, item_id)
    rank = collision_ranks(codes, order)
    parts = list(inverse_parts(codes, [3, 2], order, item_id, size))
    found = [row for part in parts for row in part.to_pylist()]
    assert [row["tokens"] for row in found] == sorted(map(list, {tuple(row) for row in tokens.tolist()}))
    names = item_id.to_pylist()
    for row in found:
        expected = sorted(np.flatnonzero((tokens == row["tokens"]).all(axis=1)), key=lambda item: rank[item])
        assert row["item_index"] == expected
        assert row["item_id"] == [names[item] for item in expected]
    # A part is no longer than was asked for, unless one SID alone is.
    for part in parts:
        assert part.num_rows == 1 or sum(len(row) for row in part.column("item_index").to_pylist()) <= size
