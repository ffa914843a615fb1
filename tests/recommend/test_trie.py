"""The prefix tree against a dictionary of prefixes."""

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lgsid_ray.recommend.generators.trie import Trie


@st.composite
def sids(draw: st.DrawFn) -> list[tuple[int, ...]]:
    """Some SIDs of equal length; small tokens make duplicates and shared prefixes common."""
    levels, most = draw(st.integers(1, 4)), draw(st.sampled_from([0, 2, 9, 100_000]))
    return draw(st.lists(st.tuples(*[st.integers(0, most)] * levels), min_size=1, max_size=25))


def walk(trie: Trie, prefix: tuple[int, ...]) -> np.ndarray:
    state = np.array([trie.root])
    for token in prefix:
        state = trie.step(state, np.array([token]))
    return state


def following(rows: list[tuple[int, ...]]) -> dict[tuple[int, ...], set[int]]:
    """What may follow each prefix."""
    out: dict[tuple[int, ...], set[int]] = {}
    for row in rows:
        for depth, token in enumerate(row):
            out.setdefault(row[:depth], set()).add(token)
    return out


@given(sids())
def test_children_are_the_tokens_that_follow_a_prefix(rows: list[tuple[int, ...]]) -> None:
    trie, expected = Trie.build(np.array(rows)), following(rows)
    for prefix, tokens in expected.items():
        row, found = trie.children(walk(trie, prefix))
        assert found.tolist() == sorted(tokens)
        assert row.tolist() == [0] * len(tokens)


@given(sids())
def test_states_are_distinct_one_per_prefix(rows: list[tuple[int, ...]]) -> None:
    trie = Trie.build(np.array(rows, np.int32))
    prefixes = sorted({row[:depth] for row in rows for depth in range(len(rows[0]) + 1)})
    assert sorted(int(walk(trie, prefix)[0]) for prefix in prefixes) == list(range(len(prefixes)))
    assert len(trie.token) == len(prefixes)


@given(sids())
def test_an_item_stands_at_its_sid_the_first_of_those_that_share_it(rows: list[tuple[int, ...]]) -> None:
    trie = Trie.build(np.array(rows))
    leaves = np.concatenate([walk(trie, row) for row in rows])
    assert trie.items(leaves).tolist() == [rows.index(row) for row in rows]
    assert trie.children(leaves)[1].tolist() == []


@given(sids(), st.randoms(use_true_random=False))
def test_many_states_at_once_equal_one_after_another(rows: list[tuple[int, ...]], random: Random) -> None:
    trie, expected = Trie.build(np.array(rows)), following(rows)
    prefixes = [prefix for prefix in expected for _ in range(2)]
    random.shuffle(prefixes)
    states = np.concatenate([walk(trie, prefix) for prefix in prefixes])
    row, token = trie.children(states)
    assert [(int(r), int(t)) for r, t in zip(row, token, strict=True)] == [
        (place, child) for place, prefix in enumerate(prefixes) for child in sorted(expected[prefix])
    ]
    behind = trie.step(states[row], token)
    assert behind.tolist() == [int(walk(trie, (*prefixes[r], int(t)))[0]) for r, t in zip(row, token, strict=True)]


def test_the_order_of_items_does_not_change_the_tree() -> None:
    rows = np.random.default_rng(0).integers(0, 5, (60, 3))
    shuffled = np.random.default_rng(1).permutation(60)
    a, b = Trie.build(rows), Trie.build(rows[shuffled])
    assert np.array_equal(a.token, b.token)
    assert np.array_equal(a.first, b.first)
    assert np.array_equal(rows[shuffled][b.order], rows[a.order])


def test_items_of_a_leaf_ascend() -> None:
    rows = np.array([[1, 1], [0, 2], [1, 1], [0, 2], [1, 1]])
    trie = Trie.build(rows)
    spans = [trie.order[a:b].tolist() for a, b in zip(trie.begin[:-1], trie.begin[1:], strict=True)]
    assert spans == [[1, 3], [0, 2, 4]]
