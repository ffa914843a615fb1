"""Geographic gap closed (docs/method.md): how far an arm climbs towards the oracle at the same loss of meaning.

A frontier is the broken line through its points in the order of its knob. At a floor f an arm is worth the best
T@5 on that line with Similarity@5 at least f × origin's. Where the line falls steadily this is the point at which
Similarity@5 equals f × origin's; where it doubles back, the best of its crossings and of what lies before them.
All arms are read so. An arm that never comes down to the floor is read at its best point and marked as not having
reached it: nothing is extrapolated.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

Point = Mapping[str, float | None]
"""`knob`, `similarity`, `province`, `city`, `district` and, where known, `content_similarity`."""


def at_floor(points: Sequence[Point], floor: float) -> dict[str, Any] | None:
    """The best point by `district` on the broken line with `similarity` ≥ floor; every value is interpolated there.

    `reached` says whether the line comes down to the floor at all. None: no part of the line is above the floor.
    """
    reachable = [dict(point) for point in points if _number(point, "similarity") >= floor]
    for left, right in pairwise(points):
        begin, end = _number(left, "similarity"), _number(right, "similarity")
        if (begin - floor) * (end - floor) < 0:
            reachable.append(_between(left, right, (floor - begin) / (end - begin)))
    if not reachable:
        return None
    best: dict[str, Any] = max(reachable, key=lambda point: (_number(point, "district"), _number(point, "similarity")))
    best["reached"] = min(_number(point, "similarity") for point in points) <= floor
    return best


def gap_closed(origin: float, arm: float, oracle: float) -> float | None:
    """(T@5 − T@5_origin) / (T@5_oracle − T@5_origin); None where the oracle gains nothing over origin."""
    if oracle - origin < 1e-9:
        return None
    return (arm - origin) / (oracle - origin)


def compare(frontiers: Mapping[str, Sequence[Point]], floor: float) -> dict[str, Any]:
    """The arms of one group at the floor, a share of origin's Similarity@5.

    Args:
        frontiers: arm → points, the first of each at origin; `oracle` must be among them.
        floor: f.

    Returns:
        `origin`, `floor_similarity`, `arms` (arm → its point at the floor), `gap_closed` (arm → share or None) and,
        where it is None throughout, `reason`.
    """
    origin = dict(frontiers["oracle"][0])
    if origin["similarity"] is None or origin["district"] is None:
        return {"reason": "no query has a known district"}
    if origin["similarity"] <= 0:
        return {"reason": "origin's Similarity@5 is not positive, so a share of it is no floor"}
    bound = floor * origin["similarity"]
    arms = {name: at_floor(points, bound) for name, points in frontiers.items()}
    best = {name: _number(point, "district") for name, point in arms.items() if point is not None}
    closed = {
        # At a floor of 1 an arm may have no point: those that begin at origin do so but for rounding.
        name: gap_closed(origin["district"], best[name], best["oracle"]) if name in best else None
        for name in frontiers
        if name != "oracle"
    }
    result = {"origin": origin, "floor_similarity": bound, "arms": arms, "gap_closed": closed}
    if best["oracle"] - origin["district"] < 1e-9:
        result["reason"] = "there is no gap: the oracle's T@5 at the floor is no higher than origin's"
    return result


def _between(left: Point, right: Point, share: float) -> dict[str, float | None]:
    middle: dict[str, float | None] = {}
    for name in left:
        begin, end = left[name], right[name]
        middle[name] = None if begin is None or end is None else begin + share * (end - begin)
    return middle


def _number(point: Point, name: str) -> float:
    value = point[name]
    return -1.0 if value is None else value
