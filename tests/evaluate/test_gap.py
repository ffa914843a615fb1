"""Reading frontiers at a bound, the gap closed, and its bootstrap, on known answers."""

import numpy as np
import pytest

from lgsid_ray.evaluate.gap import DISTRICT, FIELDS, at_bound, compare, compare_saved, curve, draws, gap_closed

SIMILARITY = FIELDS.index("similarity")


def frontier(*points: tuple[float, float]) -> np.ndarray:
    """(1, p, FIELDS) of pairs of Similarity@5 and T@5; knobs count up, content is as Similarity."""
    values = [[knob, similarity, similarity, 1.0, 0.5, district] for knob, (similarity, district) in enumerate(points)]
    return np.array([values])


def read(bound: float, *points: tuple[float, float]) -> tuple[dict[str, float], bool]:
    found, reached = at_bound(frontier(*points), np.array([bound]), SIMILARITY)
    return dict(zip(FIELDS, found[0].tolist(), strict=True)), bool(reached[0])


def test_the_bound_is_read_between_points():
    found, reached = read(0.95, (1.0, 0.2), (0.9, 0.6), (0.5, 0.8))
    assert found["district"] == pytest.approx(0.4)
    assert found["knob"] == pytest.approx(0.5)
    assert found["similarity"] == pytest.approx(0.95)
    assert reached


def test_a_frontier_that_doubles_back_gives_its_best():
    assert read(0.95, (1.0, 0.2), (0.9, 0.3), (0.98, 0.7), (0.9, 0.6))[0]["district"] == pytest.approx(0.7)


def test_an_arm_that_stays_above_the_bound_is_not_extrapolated():
    found, reached = read(0.95, (1.0, 0.2), (0.99, 0.4))
    assert found["district"] == 0.4
    assert not reached


def test_an_arm_below_the_bound_has_no_point():
    assert np.isnan(read(0.95, (0.9, 0.2), (0.8, 0.4))[0]["district"])


def test_gap_closed_is_one_for_the_oracle_and_zero_for_origin():
    line = frontier((1.0, 0.2), (0.8, 0.9))
    found = compare({"oracle": line, "same": line, "idle": frontier((1.0, 0.2), (1.0, 0.2))}, 0.9)
    assert found["gap_closed"] == {"same": pytest.approx(1.0), "idle": 0.0}
    assert found["arms"]["idle"]["reached"] is False
    assert np.isnan(gap_closed(np.array([0.4]), np.array([0.4]), np.array([0.4])))


def test_where_the_oracle_stays_above_the_floor_all_are_read_at_its_lowest():
    oracle, arm = frontier((1.0, 0.2), (0.98, 1.0)), frontier((1.0, 0.2), (0.9, 0.7))
    found = compare({"oracle": oracle, "arm": arm}, 0.9)
    assert found["bound"] == pytest.approx(0.98)
    assert found["arms"]["oracle"]["district"] == 1.0
    assert found["gap_closed"]["arm"] == pytest.approx(0.1 / 0.8)


def test_at_a_content_floor_the_content_oracle_closes_all():
    content = frontier((1.2, 0.1), (0.8, 0.9))  # begins at content alone: more alike, and elsewhere
    curves = {"oracle": frontier((1.0, 0.2), (0.8, 0.5)), "content_oracle": content}
    found = compare(curves, 0.9, "content_similarity")
    assert found["arms"]["content_oracle"]["district"] == pytest.approx(0.7)
    assert found["gap_closed"] == {"oracle": pytest.approx((0.35 - 0.2) / (0.7 - 0.2))}


def test_no_arm_is_read_where_even_origin_is_not():
    """A content oracle that is always more alike than origin: arms are read at origin's own level."""
    curves = {"oracle": frontier((1.0, 0.2), (0.8, 0.5)), "content_oracle": frontier((1.4, 0.1), (1.2, 0.9))}
    found = compare(curves, 0.9, "content_similarity")
    assert (found["bound"], found["arms"]["content_oracle"]["district"]) == (1.0, 0.9)
    assert found["gap_closed"] == {"oracle": 0.0}


def test_what_was_saved_is_read_where_it_stands_and_its_rivals_there():
    line = frontier((1.0, 0.2), (0.8, 1.0))
    curves = {"oracle": line, "rival": frontier((1.0, 0.2), (0.8, 0.6))}
    found = compare_saved(curves, frontier((0.9, 0.4))[:, 0])
    assert (found["kept"], found["saved"]) == (pytest.approx(0.9), pytest.approx(0.5))
    assert found["gap_closed"]["rival"] == pytest.approx(0.5)
    below = compare_saved(curves, frontier((0.7, 0.9))[:, 0])  # less alike than the oracle ever is
    assert (below["bound"], below["arms"]["oracle"]["district"]) == (0.7, 1.0)
    assert below["saved"] == pytest.approx(0.7 / 0.8)
    above = compare_saved(curves, frontier((1.1, 0.3))[:, 0])  # more alike than origin: read at origin
    assert above["kept"] == pytest.approx(1.1)
    assert above["bound"] == pytest.approx(1.0)


def test_unknown_districts_give_a_reason():
    line = frontier((1.0, np.nan), (0.8, np.nan))
    assert compare({"oracle": line}, 0.9) == {"reason": "no query has a known district"}


def test_curves_are_weighted_means_of_what_is_known():
    values = np.full((1, 3, len(FIELDS) - 1), 0.5)
    values[0, :, -1] = [0.0, 1.0, np.nan]
    found = curve((2.0,), values, np.array([[1.0, 1.0, 1.0], [3.0, 1.0, 9.0], [0.0, 0.0, 1.0]]))
    np.testing.assert_array_equal(found[:, 0, DISTRICT], [0.5, 0.25, np.nan])
    assert (found[:, 0, 0] == 2.0).all()


def test_draws_take_whole_clusters():
    clusters = np.array([7, 7, 7, -1, 2, 2])
    drawn = draws(clusters, 0, 500)
    assert (drawn[0] == 1).all()
    assert (drawn[:, 0] == drawn[:, 2]).all()
    assert (drawn[:, 4] == drawn[:, 5]).all()
    assert (drawn[1:, [0, 3, 4]].sum(axis=1) == 3).all()
    assert drawn[1:].mean() == pytest.approx(1.0, abs=0.15)
    assert (draws(clusters, 0, 500) == drawn).all()


def test_an_interval_is_as_wide_as_clusters_differ():
    """Queries of a place are one draw: the interval of 20 equal places is a point, that of 20 unequal ones is wide."""
    clusters = np.repeat(np.arange(20), 30)
    weights = draws(clusters, 0)

    def interval(arm: np.ndarray) -> tuple[float, float]:
        curves = {}
        for name, reached in (("oracle", np.ones(600)), ("arm", arm)):
            values = np.zeros((2, 600, len(FIELDS) - 1))
            values[0, :, 0], values[1, :, 0], values[1, :, -1] = 1.0, 0.9, reached
            curves[name] = curve((0.0, 1.0), values, weights)
        low, high = compare(curves, 0.9)["interval"]["arm"]
        return low, high

    assert interval(np.full(600, 0.5)) == (pytest.approx(0.5), pytest.approx(0.5))
    low, high = interval(clusters / 19)
    assert low < 0.5 < high
    assert 0.15 < high - low < 0.35  # 2 × 1.96 × .30 / √20
