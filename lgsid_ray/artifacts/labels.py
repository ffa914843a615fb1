"""Label paths (province), (province, city), (province, city, district): coded here and nowhere else.

A label counts within those above it, since names recur (there is a Springfield in many states). A null anywhere in a
path makes the path unknown, and unknown equals nothing, itself included. A catalogue without places may bring a
hierarchy of its own (genres, merchants) under the same three names.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Int64

LEVELS = ("province", "city", "district")
SEPARATOR = "\x1f"


def label_paths(items: pa.Table, depth: int = len(LEVELS)) -> pa.ChunkedArray:
    """(n,) strings that name each row's path down to `depth` levels; null where it is unknown."""
    columns = [items.column(name) for name in LEVELS[:depth]]
    return pc.binary_join_element_wise(*columns, SEPARATOR)


def path_codes(items: pa.Table, depth: int = len(LEVELS)) -> Int64:
    """(n, depth) numbers of the paths of 1..depth levels, in the order of their names; -1: unknown."""
    return np.stack([_codes(label_paths(items, level + 1)) for level in range(depth)], axis=1)


def _codes(paths: pa.ChunkedArray) -> Int64:
    coded = paths.combine_chunks().dictionary_encode()
    rank = np.empty(len(coded.dictionary) + 1, dtype=np.int64)
    rank[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(coded.dictionary))
    rank[-1] = -1
    return rank[coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
