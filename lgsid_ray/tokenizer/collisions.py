"""Items that share a SID: their order, their ranks, how many they are, and the table from a SID back to its items.

All of it is said of a run of SIDs: some or all items, of which each SID has all of its own or none. No Ray.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Int32, Int64
from lgsid_ray.artifacts.keys import unpack_sids
from lgsid_ray.artifacts.table import lists


def bucket_starts(sample: Int64, rows: int) -> Int64:
    """(b − 1,) ascending SIDs with which the buckets behind the first begin, so that none of the b is empty.

    Args:
        sample: (s,) SIDs of items. rows: how many of them a bucket has, about; those of one SID are never parted.
    """
    # A bucket begins with a SID that an item has; the first has its own, and all before it.
    return np.unique(np.sort(sample)[::rows])[1:]


def sid_order(rows: pa.Table) -> Int64:
    """(n,) rows by SID, their `key`; of one SID the most popular in training first, then by item_id, never by place.

    So an item keeps its rank when others come before it in the catalogue that do not share its SID.
    """
    by = [("key", "ascending"), ("popularity", "descending"), ("item_id", "ascending")]
    return pc.sort_indices(rows, sort_keys=by).to_numpy().astype(np.int64)


def group_starts(numbers: Int64) -> Int64:
    """(groups + 1,) where equal ones begin in (n,) ascending numbers, and behind the last group its end."""
    return np.append(np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]]), len(numbers))


def ranks_within(starts: Int64) -> Int32:
    """(n,) 0-based place of every row in its group, of groups that lie as `group_starts` says."""
    return (np.arange(starts[-1]) - np.repeat(starts[:-1], np.diff(starts))).astype(np.int32)


def inverse_table(rows: pa.Table, sizes: Sequence[int]) -> pa.Table:
    """The table SID → items, ascending by tokens, out of `key`, `item_index` and `item_id` in the order of SIDs."""
    keys = rows.column("key").to_numpy()
    starts = group_starts(keys)
    offsets = pa.array(starts, pa.int32())
    items = {name: rows.column(name).combine_chunks() for name in ("item_index", "item_id")}
    columns = {name: pa.ListArray.from_arrays(offsets, column) for name, column in items.items()}
    return pa.table({"tokens": lists(unpack_sids(keys[starts[:-1]], sizes), pa.int32()), **columns})


@dataclass(frozen=True)
class Held:
    """How many items stand behind the prefixes of one length, in a run of SIDs; runs that follow each other add up.

    Attributes:
        inner: {items: prefixes that have so many}, of those that begin and end within the run.
        outer: {prefix: items}, of the run's first and last prefix, which may go on in another.
    """

    inner: Counter[int] = field(default_factory=Counter)
    outer: Counter[int] = field(default_factory=Counter)

    def __add__(self, other: "Held") -> "Held":
        return Held(self.inner + other.inner, self.outer + other.outer)

    @property
    def prefixes(self) -> Counter[int]:
        """{items: prefixes that have so many}, of all; as many entries as there are different numbers of items."""
        return self.inner + Counter(self.outer.values())


def held_by_prefixes(keys: Int64, sizes: Sequence[int]) -> list[Held]:
    """For every length of a prefix, from 1, how many of (n,) ascending SIDs begin with it."""
    found, behind = list[Held](), 1
    for size in reversed(sizes):
        prefix = keys // behind
        starts = group_starts(prefix)
        prefix, held = prefix[starts[:-1]], np.diff(starts)
        inner = np.unique(held[1:-1], return_counts=True)
        outer = {int(prefix[end]): int(held[end]) for end in (0, -1)}
        found.append(Held(Counter(dict(zip(*(part.tolist() for part in inner), strict=True))), Counter(outer)))
        behind *= size
    return found[::-1]


def bits(held: Mapping[int, int]) -> float:
    """Entropy in bits of an item's prefix, of {items: prefixes that have so many}: how much it tells.

    At most log2 of the number of items.
    """
    items, prefixes = (np.array(list(column)) for column in (held.keys(), held.values()))
    share = items / (items * prefixes).sum()
    return float(-(prefixes * share * np.log2(share)).sum() + 0.0)


@dataclass(frozen=True)
class Crowd:
    """The items of one SID.

    Attributes:
        items: how many. key: their SID. first: the least item_index among them.
    """

    items: int
    key: int
    first: int


def crowds(keys: Int64, item_index: Int64, most: int) -> list[Crowd]:
    """The `most` SIDs with most items, of equal ones the smaller; of (n,) ascending SIDs and their items."""
    starts = group_starts(keys)
    held = np.diff(starts)
    fullest = np.argsort(-held, kind="stable")[:most]
    first = np.minimum.reduceat(item_index, starts[:-1])[fullest]
    found = (held[fullest], keys[starts[fullest]], first)
    return [Crowd(*row) for row in zip(*(column.tolist() for column in found), strict=True)]
