"""Co-visited pairs D_dc (Eq 5), counted by map, shuffle and reduce over blocks of users and of items.

spread   one task per part of the log: its training events, split into blocks by user
count    one task per block of users: distinct capped histories, their pairs, split into blocks by item
merge    one task per block of items: s(a, b); the histogram of counts gives the threshold
above    the pairs with s > s_th stay in blocks; the driver never holds pairs that it did not choose
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from lgsid_ray.arrays import Bool, Int64, UInt64
from lgsid_ray.artifacts import Interactions
from lgsid_ray.config.preference import PreferenceConfig
from lgsid_ray.draws import random_bits
from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.geo.points import point_xyz
from lgsid_ray.preference.cooccurrence import PairCounts, count_pairs, count_threshold, merge
from lgsid_ray.preference.districts import Districts
from lgsid_ray.preference.histories import EVENT_COLUMNS, Events, concatenate, histories, training_events

BLOCKS = 64  # at most so many shuffle blocks


@dataclass(frozen=True)
class Covisits:
    """D_dc, spread over the cluster."""

    blocks: list[Any]
    """References to `PairCounts`; none where there is no log."""
    districts: Any
    """Reference to `Districts`."""
    threshold: int | None
    """s_th; None where no two items were ever co-visited."""

    def __len__(self) -> int:
        return sum(ray.get([_size.remote(block) for block in self.blocks]))

    def choose(self, wanted: int, seed: int) -> Int64:
        """(anchor, i+) rows, (at most wanted, 2), drawn uniformly without repetition from both directions."""
        found = ray.get([_smallest.remote(block, self.districts, wanted, seed) for block in self.blocks])
        if not found:
            return np.empty((0, 2), dtype=np.int64)
        bits, pairs = (np.concatenate(column) for column in zip(*found, strict=True))
        return pairs[np.argsort(bits, kind="stable")[:wanted]]

    def contains(self, first: Int64, second: Int64) -> Bool:
        """Whether each pair of items is co-visited."""
        ends = ray.put((first, second))
        hits = np.zeros(len(first), dtype=bool)
        for found in [_contains.remote(block, self.districts, ends) for block in self.blocks]:
            hits |= ray.get(found)
        return hits


def count_covisits(log: Interactions, districts: Any, settings: PreferenceConfig) -> Covisits:
    """Count the log, where there is one; `districts` is a reference to `Districts`."""
    if not log.exists():
        return Covisits([], districts, None)
    parts = log.parts()
    count = min(BLOCKS, len(parts))
    events: list[Any] = [
        _spread_events.options(num_returns=count).remote(log, part, count, districts) for part in parts
    ]
    by_user = _columns(events, count)
    counted: list[Any] = [
        _count_block.options(num_returns=count).remote(count, districts, settings.max_history, *column)
        for column in by_user
    ]
    merged = [_merge_pairs.remote(districts, settings.max_km, *column) for column in _columns(counted, count)]
    found = ray.get([_histogram.remote(block) for block in merged])
    values, where = np.unique(np.concatenate([v for v, _ in found]), return_inverse=True)
    if not len(values):
        return Covisits([], districts, None)
    frequency = np.bincount(where, weights=np.concatenate([f for _, f in found])).astype(np.int64)
    threshold = settings.threshold
    if threshold is None:
        threshold = count_threshold(values, frequency, settings.quantile)
    return Covisits([_above.remote(block, threshold) for block in merged], districts, threshold)


def _columns(rows: list[Any], count: int) -> list[list[Any]]:
    """Results of tasks with `count` returns, by return; a task with one return gives no list."""
    return [rows] if count == 1 else [list(column) for column in zip(*rows, strict=True)]


def _several(blocks: list[Any]) -> Any:
    return blocks[0] if len(blocks) == 1 else blocks


@ray.remote
def _spread_events(log: Interactions, part: str, count: int, districts: Districts) -> Any:
    events = training_events(log.part(part, EVENT_COLUMNS), districts.code >= 0)
    block = events.user % np.uint64(count)
    return _several([events.take(block == b) for b in range(count)])


@ray.remote
def _count_block(count: int, districts: Districts, max_history: int, *events: Events) -> Any:
    size = len(districts.code)
    pairs = count_pairs(*histories(concatenate(list(events)), max_history), size)
    block = pairs.pairs // size % count
    return _several([pairs.take(np.flatnonzero(block == b)) for b in range(count)])


@ray.remote
def _merge_pairs(districts: Districts, max_km: float | None, *runs: PairCounts) -> PairCounts:
    pairs = merge(list(runs))
    if max_km is None:
        return pairs
    ends = [point_xyz(districts.key[side]) for side in np.divmod(pairs.pairs, len(districts.code))]
    return pairs.take(np.flatnonzero(chord_to_km(np.linalg.norm(ends[0] - ends[1], axis=1)) <= max_km))


@ray.remote
def _histogram(block: PairCounts) -> tuple[Int64, Int64]:
    values, frequency = np.unique(block.counts, return_counts=True)
    return values, frequency


@ray.remote
def _above(block: PairCounts, threshold: int) -> PairCounts:
    return block.take(np.flatnonzero(block.counts > threshold))


@ray.remote
def _size(block: PairCounts) -> int:
    return len(block.pairs)


@ray.remote
def _smallest(block: PairCounts, districts: Districts, wanted: int, seed: int) -> tuple[UInt64, Int64]:
    ends = np.stack(np.divmod(block.pairs, len(districts.code)), axis=1)
    both = np.concatenate([ends, ends[:, ::-1]])
    bits = random_bits(seed, "pair", both[:, 0], both[:, 1])
    kept = np.argsort(bits)[:wanted]
    return bits[kept], both[kept]


@ray.remote
def _contains(block: PairCounts, districts: Districts, ends: tuple[Int64, Int64]) -> Bool:
    low, high = np.minimum(*ends), np.maximum(*ends)
    return np.isin(low * len(districts.code) + high, block.pairs)
