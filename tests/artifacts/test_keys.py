"""SIDs as numbers: round trips, order, prefixes, refusals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgsid_ray.artifacts.keys import pack_sids, unpack_sids

SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=5)  # 5000^5 < 2^63


@given(SIZES, st.randoms(use_true_random=False))
def test_numbers_read_back_and_ascend_as_sids_do(sizes: list[int], random: object) -> None:
    rng = np.random.default_rng(random.randint(0, 2**32))  # type: ignore[attr-defined]
    tokens = rng.integers(0, sizes, (50, len(sizes)), dtype=np.int32)
    keys = pack_sids(tokens, sizes)
    assert keys.dtype == np.int64
    assert np.array_equal(unpack_sids(keys, sizes), tokens)
    assert [tuple(row) for row in tokens[np.argsort(keys)].tolist()] == sorted(map(tuple, tokens.tolist()))


@given(SIZES)
def test_a_loop_gives_the_same_numbers(sizes: list[int]) -> None:
    for token in (0, 1):
        row, expected = [min(token, size - 1) for size in sizes], 0
        for size, part in zip(sizes, row, strict=True):
            expected = expected * size + part
        assert pack_sids(np.array([row]), sizes).tolist() == [expected]


def test_the_first_and_the_last_number_on_known_answers() -> None:
    sizes = [2**21, 2**21, 2**21 - 1]
    assert math.prod(sizes) < 2**63
    ends = np.array([[0, 0, 0], [2**21 - 1, 2**21 - 1, 2**21 - 2]])
    assert pack_sids(ends, sizes).tolist() == [0, math.prod(sizes) - 1]
    assert np.array_equal(unpack_sids(np.array([0, math.prod(sizes) - 1]), sizes), ends)


def test_fewer_sizes_than_levels_give_numbers_of_prefixes() -> None:
    tokens = np.array([[1, 2, 3], [1, 2, 0], [0, 1, 3]])
    assert pack_sids(tokens, [4, 4]).tolist() == [6, 6, 1]
    assert pack_sids(tokens, []).tolist() == [0, 0, 0]


def test_no_sids_have_no_numbers() -> None:
    assert pack_sids(np.empty((0, 2), np.int32), [3, 3]).shape == (0,)
    assert unpack_sids(np.empty(0, np.int64), [3, 3]).shape == (0, 2)


def test_what_has_no_number_of_its_own_is_refused() -> None:
    for token in (-1, 5):
        with pytest.raises(ValueError, match=f"level 2 has tokens 0 to 4, not 0 to 5|not {token} to"):
            pack_sids(np.array([[0, 0], [0, token]]), [3, 5])
    for key in (-1, 15):
        with pytest.raises(ValueError, match="have numbers 0 to 14"):
            unpack_sids(np.array([0, key]), [3, 5])
    for call in (
        lambda: pack_sids(np.zeros((1, 3), int), [2**21] * 3),
        lambda: unpack_sids(np.zeros(1, int), [2**21] * 3),
    ):
        with pytest.raises(ValueError, match="do not fit 64 bits"):
            call()
