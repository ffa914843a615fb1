"""The prefix tree against a dictionary of prefixes, and the file that processes share."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from lgsid_ray.artifacts import Trie
from lgsid_ray.artifacts.trie import FILE
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir


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


@given(sids(), st.lists(st.integers(0, 3), max_size=4))
def test_behind_a_prefix_are_the_items_whose_sids_begin_with_it(
    rows: list[tuple[int, ...]], unknown: list[int]
) -> None:
    trie = Trie.build(np.array(rows))
    prefixes = {row[:depth] for row in rows for depth in range(len(row) + 1)} | {tuple(unknown[: len(rows[0])])}
    for prefix in prefixes:
        begin = [item for item, row in enumerate(rows) if row[: len(prefix)] == prefix]
        assert trie.behind(prefix).tolist() == sorted(begin, key=lambda item: (rows[item], item))


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


@given(sids(), st.integers(1, 12))
def test_it_is_the_same_from_sorted_rows_however_they_are_cut(rows: list[tuple[int, ...]], size: int) -> None:
    tokens = np.array(rows)
    order = np.lexsort(tokens.T[::-1])
    cut = Trie.of_runs((tokens[some], some) for some in np.split(order, range(size, len(order), size)))
    for name, part in vars(Trie.build(tokens)).items():
        assert part.dtype == vars(cut)[name].dtype == np.int32
        assert np.array_equal(part, vars(cut)[name])


@given(sids(), st.integers(1, 3))
def test_what_is_allowed_is_what_follows(rows: list[tuple[int, ...]], times: int) -> None:
    trie, expected = Trie.build(np.array(rows)), following(rows)
    for depth in range(len(rows[0])):
        prefixes = [prefix for prefix in expected if len(prefix) == depth] * times
        states = np.concatenate([walk(trie, prefix) for prefix in prefixes])
        size = max(row[depth] for row in rows) + 2
        allowed = trie.allowed(states, size)
        assert allowed.shape == (len(prefixes), size)
        assert [set(np.flatnonzero(row).tolist()) for row in allowed] == [expected[prefix] for prefix in prefixes]
    assert trie.allowed(np.empty(0, np.int64), 4).shape == (0, 4)


def test_it_holds_at_most_16_bytes_a_node_where_sids_are_unique() -> None:
    for sizes in ([5000], [2000, 3], [3, 2000], [20, 20, 20]):
        trie = Trie.build(np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1))
        assert sum(part.nbytes for part in vars(trie).values()) <= 16 * len(trie.token)


@given(rows=sids())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_saved_trie_reads_back(tmp_path: Path, rows: list[tuple[int, ...]]) -> None:
    built = Trie.build(np.array(rows))
    for folder in (StageDir(str(tmp_path)), StageDir("memory://trie")):
        built.save(folder)
        loaded = Trie.load(folder)
        for name, part in vars(built).items():
            assert part.dtype == vars(loaded)[name].dtype == np.int32
            assert np.array_equal(part, vars(loaded)[name])
    peer = load_file(tmp_path / FILE)
    assert all(np.array_equal(part, peer[name]) for name, part in vars(built).items())


def test_a_loaded_trie_is_the_file_itself_read_only(tmp_path: Path) -> None:
    Trie.build(np.arange(60_000).reshape(-1, 2)).save(StageDir(str(tmp_path)))
    trie = Trie.load(StageDir(str(tmp_path)))
    with pytest.raises(ValueError, match="read-only"):
        trie.token[0] = 1
    places = [part.__array_interface__["data"][0] for part in vars(trie).values()]
    spans = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(FILE)]
    (low, high), shared = (int(end, 16) for end in spans[-1][0].split("-")), spans[-1][1]
    assert all(low <= place < high for place in places)
    assert shared == "r--s"


def test_a_file_that_is_no_trie_is_refused(tmp_path: Path) -> None:
    folder = StageDir(str(tmp_path))
    with pytest.raises(StorageError, match=r"trie.safetensors is missing; delete .* and run again"):
        Trie.load(folder)
    Trie.build(np.arange(60).reshape(-1, 2)).save(folder)
    whole = folder.read(FILE)
    for broken in (
        b"",
        b"\1",
        whole[:100],
        whole[:-1],
        whole[:-4],
        whole[:-400],
        b"x" * 300,
        whole.replace(b"order", b"older"),
    ):
        (tmp_path / FILE).write_bytes(broken)
        with pytest.raises(StorageError, match=r"trie.safetensors is corrupt .*; delete .* and run again"):
            Trie.load(folder)


def test_sids_that_span_more_than_64_bits_have_their_tree_too() -> None:
    rows = np.array([[2**31 - 1, 7, 2**31 - 1], [0, 2**31 - 2, 5], [0, 2**31 - 2, 4], [2**31 - 1, 7, 0]])
    assert Trie.build(rows).order.tolist() == [2, 1, 3, 0]
