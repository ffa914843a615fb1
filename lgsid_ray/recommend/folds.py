"""Counts that leave out a training target's own user: users are dealt into folds, and each is told without its own."""

import numpy as np

from lgsid_ray.arrays import AnyInt, Int32, Int64
from lgsid_ray.draws import below, random_bits

FOLDS = 4
"""Into which users are dealt."""


def folds(seed: int, stream: str, user: AnyInt) -> Int64:
    """The fold of each user."""
    return below(random_bits(seed, stream, user), FOLDS)


def without_each(counts: Int64) -> Int32:
    """(FOLDS, n) counts by fold → (FOLDS + 1, n) without each of them, and of all."""
    whole = counts.sum(axis=0)
    return np.concatenate([whole - counts, whole[None]]).astype(np.int32)
