"""Random numbers that are a function of (seed, stream, index, counter): no state, no order, no partition.

A row's draws depend on its own identity alone, so a distributed stage gives the same result however its rows are
spread over tasks, and a resumed one continues without replaying. The mixing function is SplitMix64's finaliser
(Steele, Lea and Flood, 2014), a bijection of 64-bit integers.
"""

import hashlib

import numpy as np
from numpy.typing import ArrayLike

from lgsid_ray.arrays import Float64, Int64, UInt64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def random_bits(seed: int, stream: str, index: ArrayLike, counter: ArrayLike = 0) -> UInt64:
    """Independent uniform random bits, 64 each; `index` and `counter` broadcast.

    For one (seed, stream, counter) different indices give different bits: sorting by them is a permutation.
    """
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    key = np.uint64(int.from_bytes(digest[:8], "little"))
    with np.errstate(over="ignore"):
        inner = _mix(np.asarray(counter).astype(np.uint64) * _GOLDEN + key)
        return _mix(_mix(np.asarray(index).astype(np.uint64) + key) ^ inner)


def unit(bits: UInt64) -> Float64:
    """Random bits as floats in [0, 1), 53 bits each."""
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def below(bits: UInt64, size: ArrayLike) -> Int64:
    """Random bits as integers in [0, size); `size` broadcasts and stays below 2**53."""
    return np.floor(unit(bits) * np.asarray(size)).astype(np.int64)


def _mix(bits: UInt64) -> UInt64:
    with np.errstate(over="ignore"):
        bits = bits + _GOLDEN
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return bits ^ (bits >> np.uint64(31))
