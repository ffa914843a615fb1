"""Items that share a SID: their order, their ranks, and the table from a SID back to its items."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Int32, Int64
from lgsid_ray.artifacts.keys import unpack_sids
from lgsid_ray.artifacts.table import lists


def sid_order(keys: Int64, popularity: Int64, item_id: pa.ChunkedArray) -> Int64:
    """(n,) rows by SID; within one the most popular in training first, then by item_id: never by their place.

    So an item keeps its rank when others come before it in the catalogue that do not share its SID.
    """
    table = pa.table({"key": keys, "popularity": popularity, "item_id": item_id})
    by = [("key", "ascending"), ("popularity", "descending"), ("item_id", "ascending")]
    return pc.sort_indices(table, sort_keys=by).to_numpy().astype(np.int64)


def sid_starts(keys: Int64, order: Int64) -> Int64:
    """Where each distinct SID begins in `order`, and behind the last its end."""
    ascending = keys[order]
    return np.append(np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]]), len(order))


def collision_ranks(keys: Int64, order: Int64) -> Int32:
    """(n,) 0-based rank of every row among those that share its SID."""
    starts = sid_starts(keys, order)
    ranks = np.empty(len(keys), dtype=np.int32)
    ranks[order] = np.arange(len(order)) - np.repeat(starts[:-1], np.diff(starts))
    return ranks


def inverse_parts(
    keys: Int64, sizes: Sequence[int], order: Int64, item_id: pa.ChunkedArray, rows: int
) -> Iterator[pa.Table]:
    """The table SID → items, ascending by tokens, its items by rank; some `rows` items at a time."""
    starts, first = sid_starts(keys, order), 0
    while first < len(starts) - 1:
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + rows, side="right")) - 1)
        mine = order[starts[first] : starts[last]]
        offsets = pa.array(starts[first : last + 1] - starts[first], pa.int32())
        yield pa.table(
            {
                "tokens": lists(unpack_sids(keys[order[starts[first:last]]], sizes), pa.int32()),
                "item_index": pa.ListArray.from_arrays(offsets, pa.array(mine)),
                "item_id": pa.ListArray.from_arrays(offsets, item_id.take(pa.array(mine)).combine_chunks()),
            }
        )
        first = last
