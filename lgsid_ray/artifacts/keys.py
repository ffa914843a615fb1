"""A SID as one 64-bit number, and back."""

import math
from collections.abc import Sequence

import numpy as np

from lgsid_ray.arrays import AnyInt, Int32, Int64

SPAN = 2**63
"""So many SIDs have numbers of their own."""


def pack_sids(tokens: AnyInt, sizes: Sequence[int]) -> Int64:
    """(n,) numbers of SIDs, from 0, that ascend as the SIDs do in lexicographic order.

    Args:
        tokens: (n, levels or more); of what stands behind the levels in `sizes` nothing is kept, so that with the
            first few sizes these are the numbers of prefixes.
        sizes: codes per level (`Tokenizer.sizes`).

    Raises:
        ValueError: a token that its level does not have, or 2^63 SIDs or more.
    """
    _require_span(sizes)
    keys = np.zeros(len(tokens), dtype=np.int64)
    for level, size in enumerate(sizes):
        column = tokens[:, level]
        if ((column < 0) | (column >= size)).any():
            raise ValueError(f"level {level + 1} has tokens 0 to {size - 1}, not {column.min()} to {column.max()}")
        keys *= size
        keys += column
    return keys


def unpack_sids(keys: Int64, sizes: Sequence[int]) -> Int32:
    """(n, levels) the tokens of the SIDs whose numbers `pack_sids` gave with the same sizes.

    Raises:
        ValueError: a number that no SID of these sizes has.
    """
    _require_span(sizes)
    if ((keys < 0) | (keys >= math.prod(sizes))).any():
        last = math.prod(sizes) - 1
        raise ValueError(f"SIDs of sizes {list(sizes)} have numbers 0 to {last}, not {keys.min()} to {keys.max()}")
    tokens = np.empty((len(keys), len(sizes)), dtype=np.int32)
    for level in reversed(range(len(sizes))):
        keys, tokens[:, level] = np.divmod(keys, sizes[level])
    return tokens


def prefix_numbers(tokens: Int64) -> Int64:
    """(n, L) numbers from 0 of the distinct prefixes (z_1), (z_1, z_2), … of (n, L) tokens.

    As tokens they give every prefix a row of its own: prefix n-grams (Singh et al., RecSys 2024), without hashing.
    """
    numbers, group = np.empty_like(tokens), np.zeros(len(tokens), dtype=np.int64)
    for level, token in enumerate(tokens.T):
        group = np.unique(group * (int(token.max(initial=0)) + 1) + token, return_inverse=True)[1]
        numbers[:, level] = group
    return numbers


def _require_span(sizes: Sequence[int]) -> None:
    if math.prod(sizes) >= SPAN:
        raise ValueError(f"sizes {list(sizes)} span 2^63 SIDs or more: their numbers do not fit 64 bits")
