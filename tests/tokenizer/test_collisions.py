"""Collision ranks by popularity, then item_id, never by row; the table SID → items; what is counted of prefixes."""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgsid_ray.artifacts.keys import pack_sids
from lgsid_ray.tokenizer.collisions import (
    Held,
    bits,
    bucket_starts,
    crowds,
    group_starts,
    held_by_prefixes,
    inverse_table,
    ranks_within,
    sid_order,
)

ITEMS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40)
KEYS = st.lists(st.integers(0, 23), min_size=1, max_size=60)
SIZES = [4, 3, 2]


def ids(count: int) -> list[str]:
    """Distinct keys whose order is not that of the rows."""
    return [f"i{row * 7919 % 1000:03d}" for row in range(count)]


def table(codes: np.ndarray, popularity: np.ndarray, item_id: list[str]) -> pa.Table:
    """Rows of a bucket, in chunks, as they come from parts."""
    columns = {"key": codes, "popularity": popularity, "item_id": item_id, "item_index": np.arange(len(codes))}
    whole = pa.table(columns)
    return pa.concat_tables([whole.slice(0, len(codes) // 2), whole.slice(len(codes) // 2)])


def ranks(codes: np.ndarray, popularity: np.ndarray, item_id: list[str]) -> list[int]:
    order = sid_order(table(codes, popularity, item_id))
    found = np.empty(len(codes), dtype=np.int32)
    found[order] = ranks_within(group_starts(codes[order]))
    return found.tolist()


@given(ITEMS)
def test_ranks_against_a_loop(rows: list[tuple[int, int]]) -> None:
    item_id = ids(len(rows))
    sharing = defaultdict(list)
    for (code, popularity), name in zip(rows, item_id, strict=True):
        sharing[code].append((-popularity, name))
    expected = [
        sorted(sharing[code]).index((-popularity, name)) for (code, popularity), name in zip(rows, item_id, strict=True)
    ]
    assert ranks(*np.array(rows).T.copy(), item_id) == expected


@given(ITEMS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_plays_no_part(rows: list[tuple[int, int]], random: object) -> None:
    codes, popularity = np.array(rows).T.copy()
    item_id = ids(len(rows))
    order = np.random.default_rng(random.randint(0, 2**32)).permutation(len(rows))  # type: ignore[attr-defined]
    moved = ranks(codes[order], popularity[order], [item_id[row] for row in order])
    assert moved == [ranks(codes, popularity, item_id)[row] for row in order]


def test_an_item_keeps_its_rank_when_others_are_added_before_it() -> None:
    codes, popularity = np.array([5, 5, 2, 5]), np.array([1, 9, 0, 1])
    item_id = ["b", "c", "d", "a"]
    assert ranks(codes, popularity, item_id) == [2, 0, 0, 1]
    # Items of other SIDs, and a less popular one of the same.
    more = ["x", "y", "z", *item_id]
    assert ranks(np.r_[7, 2, 5, codes], np.r_[50, 50, 0, popularity], more)[3:] == [2, 0, 1, 1]
    assert ranks(np.r_[7, 1, 5, codes], np.r_[50, 50, 0, popularity], more)[3:] == [2, 0, 0, 1]


@given(ITEMS)
def test_the_inverse_lists_every_item_once_under_its_sid_by_rank(rows: list[tuple[int, int]]) -> None:
    codes, popularity = np.array(rows).T.copy()
    tokens, names = np.stack([codes // 2, codes % 2], axis=1).astype(np.int32), ids(len(rows))
    assert np.array_equal(pack_sids(tokens, [3, 2]), codes)
    whole, rank = table(codes, popularity, names), ranks(codes, popularity, names)
    found = inverse_table(whole.take(pa.array(sid_order(whole))), [3, 2]).to_pylist()
    assert [row["tokens"] for row in found] == sorted(map(list, {tuple(row) for row in tokens.tolist()}))
    for row in found:
        expected = sorted(np.flatnonzero((tokens == row["tokens"]).all(axis=1)), key=lambda item: rank[item])
        assert row["item_index"] == expected
        assert row["item_id"] == [names[item] for item in expected]


@given(KEYS, st.integers(1, 70))
def test_no_bucket_is_empty_and_none_holds_more_than_it_should_but_for_one_sid(keys: list[int], rows: int) -> None:
    starts = bucket_starts(np.array(keys), rows)
    assert starts.tolist() == sorted(set(starts.tolist()))
    held = Counter(np.searchsorted(starts, keys, side="right").tolist())
    assert sorted(held) == list(range(len(starts) + 1))
    for bucket, count in held.items():
        mine = [key for key in keys if np.searchsorted(starts, key, side="right") == bucket]
        assert count <= rows + max(Counter(mine).values()) - 1


def test_a_sample_of_nothing_makes_one_bucket() -> None:
    assert bucket_starts(np.empty(0, np.int64), 5).tolist() == []


@given(KEYS, st.integers(1, 70))
def test_what_prefixes_hold_adds_up_over_buckets(keys: list[int], rows: int) -> None:
    ascending = np.sort(keys)
    starts = bucket_starts(ascending, rows)
    parts = np.split(ascending, np.searchsorted(ascending, starts))
    held = [sum(one, Held()).prefixes for one in zip(*(held_by_prefixes(part, SIZES) for part in parts), strict=True)]
    for behind, found in zip((6, 2, 1), held, strict=True):
        assert found == Counter(Counter(key // behind for key in keys).values())


def test_what_is_told_of_prefixes_does_not_grow_with_items() -> None:
    keys = np.sort(np.random.default_rng(0).integers(0, 64**3, 200_000))
    for held in held_by_prefixes(keys, [64, 64, 64]):
        assert len(held.outer) == 2
        assert len(held.inner) < 200


def test_the_entropy_of_a_prefix_in_bits() -> None:
    assert bits({2: 1, 1: 2}) == pytest.approx(1.5)
    assert bits({1: 8}) == pytest.approx(3)
    assert bits({5: 1}) == 0


@given(KEYS, st.integers(1, 5))
def test_the_fullest_sids_against_a_loop(keys: list[int], most: int) -> None:
    order = np.argsort(keys, kind="stable")
    found = crowds(np.array(keys)[order], order, most)
    expected = sorted(Counter(keys).items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    assert [(one.key, one.items, one.first) for one in found] == [(key, n, keys.index(key)) for key, n in expected]
