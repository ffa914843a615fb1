"""Ranks: log-spaced, distinct, heavy near the anchor; draws that depend on the anchor alone."""

import numpy as np
import pytest

from lgsid_ray.geo.points import group_by_point
from lgsid_ray.sampling.ranks import draw_items, draw_ranks, draw_uniform, strata


@pytest.mark.parametrize(("count", "max_rank"), [(15, 1000), (15, 15), (2, 2), (3, 5), (15, 16), (20, 10**6)])
def test_strata_tile_all_ranks(count, max_rank):
    spans = strata(count, max_rank)
    assert spans[0, 0] == 1
    assert spans[-1, 1] == max_rank
    assert (spans[:, 1] >= spans[:, 0]).all()
    np.testing.assert_array_equal(spans[1:, 0], spans[:-1, 1] + 1)
    with pytest.raises(ValueError, match="at least as many"):
        strata(count, count - 1)


def test_ranks_are_log_spaced():
    ranks = draw_ranks(0, np.arange(20_000), 15, 1000)
    assert (np.diff(ranks, axis=1) > 0).all()
    # Log-spaced: as many negatives in 10..100 as in 100..1000, about a third of the list each.
    near, far = ((ranks > 10) & (ranks <= 100)).mean(), ((ranks > 100) & (ranks <= 1000)).mean()
    assert near == pytest.approx(far, abs=0.02)
    assert far == pytest.approx(1 / 3, abs=0.02)
    last = ranks[:, -1]
    first, final = strata(15, 1000)[-1]
    assert last.min() == first
    assert last.max() == final
    assert last.mean() == pytest.approx((first + final) / 2, rel=0.01)


def test_draws_depend_on_seed_and_anchor_alone():
    anchors = np.array([5, 900, 17])
    whole = draw_ranks(3, anchors, 15, 1000)
    np.testing.assert_array_equal(draw_ranks(3, anchors[[2, 0]], 15, 1000), whole[[2, 0]])
    assert (draw_ranks(4, anchors, 15, 1000) != whole).any()


def test_few_ranks_are_all_used():
    assert draw_ranks(0, np.array([1]), 5, 2).tolist() == [[1, 1, 2, 2, 2]]


def test_items_of_a_point_are_equally_likely():
    group = group_by_point(np.array([1, 1, 1, 2]), np.array([10, 11, 12, 13]))
    drawn = draw_items(0, np.arange(30_000), np.tile([0, 1], (30_000, 1)), group)
    assert (drawn[:, 1] == 13).all()
    np.testing.assert_allclose(np.bincount(drawn[:, 0], minlength=13)[10:] / 30_000, 1 / 3, atol=0.01)


def test_uniform_draws_leave_the_own_block_out():
    anchors = np.arange(20_000)
    drawn = draw_uniform(0, anchors, 4, 10, np.full(20_000, 3), np.full(20_000, 2))
    share = np.bincount(drawn.ravel(), minlength=10) / drawn.size
    assert share[3:5].sum() == 0
    np.testing.assert_allclose(share[[0, 1, 2, 5, 6, 7, 8, 9]], 1 / 8, atol=0.01)
