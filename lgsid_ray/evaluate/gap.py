"""Geographic gap closed (docs/method.md): how far an arm climbs towards the oracle at the same loss of meaning.

A frontier is the broken line through its points in the order of its knob. At a bound on what is kept of the meaning, an
arm is worth the best T@5 on that line which keeps as much. Where the line falls steadily this is the point at which it
keeps just that; where it doubles back, the best of its crossings and of what lies before them. All arms are read so. An
arm that never comes down to the bound is read at its best point and marked as not having reached it: nothing is
extrapolated. Where the oracle itself never comes down to it, all are read at the lowest that the oracle reaches.

Every figure is computed once as it is and once for every draw of the bootstrap: queries of one district are not
independent, so whole districts (whole cities where these were held out) are drawn.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lgsid_ray.arrays import Bool, Float64, Int64
from lgsid_ray.artifacts.frontier import MEASURES

FIELDS = ("knob", *MEASURES)
"""What the last axis of a curve holds; unknown is NaN."""
KNOB, DISTRICT = FIELDS.index("knob"), FIELDS.index("district")
ORACLES = {"similarity": "oracle", "content_similarity": "content_oracle"}
"""Which arm trades the least of a measure for what it gains in T@5."""
DRAWS = 200
COVERED = (2.5, 97.5)
"""Percentiles between which an interval lies: 95 % of the draws."""


def draws(clusters: Int64, seed: int, count: int = DRAWS) -> Float64:
    """(1 + count, q) how often each of q queries counts: once, and then as often as its cluster is drawn.

    Args:
        clusters: (q,) codes.
    """
    distinct, of = np.unique(clusters, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(distinct), np.full(len(distinct), 1 / len(distinct)), size=count)
    return np.concatenate([np.ones((1, len(of))), drawn[:, of]])


def curve(knobs: tuple[float, ...], values: Float64, weights: Float64) -> Float64:
    """(r, p, FIELDS) the frontier of an arm in every draw: its knobs, and weighted means of what queries are worth.

    Args:
        knobs: p. values: (p, q, MEASURES), NaN where unknown. weights: (r, q).
    """
    known = ~np.isnan(values)
    total = np.einsum("rq,pqm->rpm", weights, np.where(known, values, 0), optimize=True)
    count = np.einsum("rq,pqm->rpm", weights, known.astype(float), optimize=True)
    with np.errstate(invalid="ignore"):
        means = total / count
    return np.concatenate([np.broadcast_to(np.array(knobs)[None, :, None], (*means.shape[:2], 1)), means], axis=2)


def at_bound(points: Float64, asked: Float64, measure: int) -> tuple[Float64, Bool]:
    """The best points by T@5 on the broken lines where the measure is at least the bound; fields are interpolated.

    Args:
        points: (r, p, FIELDS). asked: (r,) the bound. measure: the field that is bounded.

    Returns:
        (r, FIELDS), NaN where no part of the line is above the bound, and (r,) whether it comes down to it at all.
    """
    left, right, bound = points[:, :-1], points[:, 1:], asked[:, None]
    begin, end = left[..., measure], right[..., measure]
    crosses = (begin - bound) * (end - bound) < 0
    share = (bound - begin) / np.where(crosses, end - begin, 1)
    candidates = np.concatenate([points, left + share[..., None] * (right - left)], axis=1)
    above = np.greater_equal(points[..., measure], bound)
    allowed = np.concatenate([above, crosses], axis=1)
    worth = np.where(allowed, candidates[..., DISTRICT], -np.inf)
    best = allowed & (worth >= worth.max(axis=1, keepdims=True))
    chosen = np.where(best, candidates[..., measure], -np.inf).argmax(axis=1)
    found = np.where(allowed.any(axis=1, keepdims=True), candidates[np.arange(len(points)), chosen], np.nan)
    lowest: Float64 = points[..., measure].min(axis=1)
    return found, lowest <= asked


def gap_closed(origin: Float64, arm: Float64, oracle: Float64) -> Float64:
    """(T@5 − T@5_origin) / (T@5_oracle − T@5_origin); NaN where the oracle gains nothing over origin."""
    gap = oracle - origin
    return (arm - origin) / np.where(gap < 1e-9, np.nan, gap)


def compare(curves: Mapping[str, Float64], floor: float, measure: str = "similarity") -> dict[str, Any]:
    """The arms of one group at a floor: a share of what origin has of the measure.

    Args:
        curves: arm → (r, p, FIELDS); `oracle` must be among them and begin at origin. The first of r is the figure
            itself, the others are draws.
        measure: `similarity`, which `oracle` trades for geography, or `content_similarity`, and `content_oracle`.

    Returns:
        `origin`, `bound`, `arms` (arm → its point), `gap_closed` (arm → share or None), `interval` (arm → its two
        ends) and, where there is no gap, `reason`.
    """
    origin = curves["oracle"][:, 0]
    if reason := _incomparable(origin[0], measure):
        return {"reason": reason}
    return _read(curves, _bound(curves, floor * origin[:, FIELDS.index(measure)], measure), measure)


def compare_saved(curves: Mapping[str, Float64], saved: Float64) -> dict[str, Any]:
    """What a saved space is worth, and what the arms are that keep as much Similarity@5 as it does.

    Args:
        curves: as in `compare`. saved: (r, FIELDS) of the space that was saved.

    Returns:
        As `compare`, and `kept`, `content_kept`: its shares of origin's Similarity@5 and ContentSimilarity@5;
        `point`; `saved` and `saved_interval`: its own gap closed.
    """
    measure, origin = "similarity", curves["oracle"][:, 0]
    if reason := _incomparable(origin[0], measure):
        return {"reason": reason}
    field = FIELDS.index(measure)
    # What was saved stands where it stands, so its rivals are read there too, and not at the lowest of the oracle's.
    bound = np.minimum(saved[:, field], origin[:, field])
    oracle, _ = at_bound(curves["oracle"], bound, field)
    closed = gap_closed(origin[:, DISTRICT], saved[:, DISTRICT], oracle[:, DISTRICT])
    content = FIELDS.index("content_similarity")
    return _read(curves, bound, measure) | {
        "kept": float(saved[0, field] / origin[0, field]),
        "content_kept": _number(saved[0, content] / origin[0, content]) if origin[0, content] > 0 else None,
        "point": _point(saved[0]),
        "saved": _number(closed[0]),
        "saved_interval": _interval(closed),
    }


def _bound(curves: Mapping[str, Float64], asked: Float64, measure: str) -> Float64:
    """(r,) what is asked, or the lowest that the measure's oracle reaches, but nothing above origin."""
    field = FIELDS.index(measure)
    lowest = curves[ORACLES[measure]][..., field].min(axis=1)
    return np.minimum(np.maximum(asked, lowest), curves["oracle"][:, 0, field])


def _read(curves: Mapping[str, Float64], bound: Float64, measure: str) -> dict[str, Any]:
    origin = curves["oracle"][:, 0]
    read = {name: at_bound(points, bound, FIELDS.index(measure)) for name, points in curves.items()}
    oracle = read[ORACLES[measure]][0][:, DISTRICT]
    closed = {
        name: gap_closed(origin[:, DISTRICT], points[:, DISTRICT], oracle)
        for name, (points, _) in read.items()
        if name != ORACLES[measure]
    }
    result: dict[str, Any] = {
        "origin": _point(origin[0]),
        "bound": float(bound[0]),
        "arms": {
            name: None if np.isnan(points[0, KNOB]) else _point(points[0]) | {"reached": bool(reached[0])}
            for name, (points, reached) in read.items()
        },
        "gap_closed": {name: _number(values[0]) for name, values in closed.items()},
        "interval": {name: _interval(values) for name, values in closed.items()},
    }
    if oracle[0] - origin[0, DISTRICT] < 1e-9:
        result["reason"] = "there is no gap: the oracle's T@5 at the floor is no higher than origin's"
    return result


def _incomparable(origin: Float64, measure: str) -> str | None:
    if np.isnan(origin[DISTRICT]):
        return "no query has a known district"
    if origin[FIELDS.index(measure)] > 0:
        return None
    return f"origin's {measure}@5 is not positive, so a share of it is no floor"


def _interval(values: Float64) -> list[float] | None:
    known = values[1:][~np.isnan(values[1:])]
    return np.percentile(known, COVERED).tolist() if len(known) else None


def _point(values: Float64) -> dict[str, float | None]:
    return {name: _number(value) for name, value in zip(FIELDS, values, strict=True)}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
