"""Eq 5 against plain loops."""

from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.preference import cooccurrence
from lgsid_ray.preference.cooccurrence import count_pairs, count_threshold, merge
from lgsid_ray.preference.histories import Events, concatenate, histories, training_events

ITEMS = 50


@pytest.fixture
def visits():
    """Histories as sets of items, and the same as flat arrays."""
    rng = np.random.default_rng(0)
    sets = [sorted(set(rng.integers(0, ITEMS, rng.integers(1, 20)).tolist())) for _ in range(80)]
    return sets, np.concatenate([np.array(s) for s in sets]), np.cumsum([0, *(len(s) for s in sets)])


def as_dictionary(pairs):
    return {divmod(p, ITEMS): c for p, c in zip(pairs.pairs.tolist(), pairs.counts.tolist(), strict=True)}


@pytest.mark.parametrize("chunk", [1, 50, 4_000_000])
def test_counts_equal_a_loop(visits, monkeypatch, chunk):
    monkeypatch.setattr(cooccurrence, "CHUNK", chunk)
    sets, items, starts = visits
    expected = Counter(pair for history in sets for pair in combinations(history, 2))
    assert as_dictionary(count_pairs(items, starts, ITEMS)) == expected


def test_merge_adds_up(visits):
    _, items, starts = visits
    whole = count_pairs(items, starts, ITEMS)
    half = starts[40]
    runs = [count_pairs(items[:half], starts[:41], ITEMS), count_pairs(items[half:], starts[40:] - half, ITEMS)]
    assert as_dictionary(merge(runs)) == as_dictionary(whole)
    assert len(merge([]).pairs) == 0
    assert len(count_pairs(items[:0], np.array([0]), ITEMS).pairs) == 0


@pytest.mark.parametrize(
    ("counts", "quantile", "kept"),
    [
        ([1, 1, 1, 1, 5, 9], 0.5, 2),
        ([1, 2, 3, 4], 0.5, 2),
        ([1, 2, 3, 4], 0.0, 4),
        ([1, 1, 1], 0.9, 3),  # all equal: all are the most co-visited
        ([2, 2, 3], 0.99, 1),
    ],
)
def test_threshold_by_quantile(counts, quantile, kept):
    values, frequency = np.unique(counts, return_counts=True)
    assert (np.array(counts) > count_threshold(values, frequency, quantile)).sum() == kept


def test_histories_keep_the_latest_distinct_items():
    events = Events(
        user=np.array([7, 7, 7, 7, 7, 3], dtype=np.uint64),
        item=np.array([1, 2, 3, 3, 9, 4]),
        time=np.array([50, 10, 20, 30, 40, 1]),
    )
    items, starts = histories(events, 3)
    assert np.split(items, starts[1:-1])[0].tolist() == [4]
    assert np.split(items, starts[1:-1])[1].tolist() == [1, 3, 9]  # of 1, 9, 3 (latest three events)
    items, starts = histories(events, 10)
    assert items.tolist() == [4, 1, 2, 3, 9]


def test_log_order_decides_without_times():
    events = Events(np.zeros(4, np.uint64), np.array([1, 2, 3, 4]), np.zeros(4, np.int64))
    assert histories(events, 2)[0].tolist() == [3, 4]
    empty = events.take(np.array([], dtype=int))
    assert histories(empty, 2)[1].tolist() == [0]


def test_only_positive_training_events_on_training_items_count():
    rows = [
        ("kept", 0, None, "train", "train"),
        ("kept too", 0, 1.0, "train", None),
        ("impression", 0, 0.0, "train", None),
        ("rank test", 0, 1.0, "test", "train"),
        ("generate valid", 0, 1.0, "train", "valid"),
        ("held-out item", 1, 1.0, "train", "train"),
    ]
    names = ["user_id", "item_index", "label", "rank_split", "generate_split"]
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    table = table.append_column("timestamp", pa.nulls(len(rows), pa.int64()))
    events = training_events(table, np.array([True, False]))
    expected = training_events(table.slice(0, 2), np.array([True, False]))
    assert events.user.tolist() == expected.user.tolist()
    assert len(set(events.user.tolist())) == 2
    assert concatenate([events, events]).item.tolist() == [0, 0, 0, 0]
