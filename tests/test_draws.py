"""Counter-based random bits: uniform, independent of order, permutations per counter."""

import numpy as np

from lgsid_ray.draws import below, random_bits, unit


def test_bits_are_distinct_and_uniform():
    bits = random_bits(0, "a", np.arange(200_000))
    assert len(np.unique(bits)) == len(bits)
    histogram = np.bincount((unit(bits) * 100).astype(int), minlength=100)
    chi_square = ((histogram - 2000) ** 2 / 2000).sum()
    assert 50 < chi_square < 165  # 99 degrees of freedom
    assert np.bincount(below(bits, 7)).min() > 28_000


def test_seed_stream_and_counter_matter_and_are_uncorrelated():
    index = np.arange(50_000)
    base = unit(random_bits(0, "a", index))
    for other in (
        random_bits(1, "a", index),
        random_bits(0, "b", index),
        random_bits(0, "a", index, 1),
        random_bits(0, "a", index + 1),
    ):
        assert abs(np.corrcoef(base, unit(other))[0, 1]) < 0.02


def test_bits_broadcast_and_do_not_depend_on_the_batch():
    grid = random_bits(0, "a", np.arange(5)[:, None], np.arange(3)[None, :])
    assert grid.shape == (5, 3)
    assert grid[2, 1] == random_bits(0, "a", 2, 1)
    assert len(np.unique(grid)) == 15
