"""The whole judgement of an alignment: retrieval tables, frontiers, gap closed, clusterings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.artifacts.frontier import MEASURES
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.config.evaluate import EvaluateConfig
from lgsid_ray.evaluate import frontiers
from lgsid_ray.evaluate.clustering import agreement
from lgsid_ray.evaluate.gap import compare, compare_saved, curve, draws
from lgsid_ray.evaluate.kilometres import distance_orders, nearness_gain, retrieved_km
from lgsid_ray.evaluate.retrieval import judge, mean, search
from lgsid_ray.evaluate.space import Queries, Space

FRONTIER_K = 5
"""Similarity@5 and T@5 span the frontiers."""


def retrieval_tables(space: Space, queries: Queries, ks: list[int]) -> list[dict[str, Any]]:
    """One row per space, group and K: the mean of every measure, the median `km` of what is found, and `near`.

    `near` is NDCG@K with a gain by distance. None where K exceeds the other items.
    """
    possible = [k for k in ks if k < len(space)]
    rows: list[dict[str, Any]] = []
    for name, vectors in spaces(space).items():
        values: list[dict[str, Float64]] = []
        km: Float64 | None = None
        near: dict[int, Float64] = {}
        if possible:
            found = search(vectors, queries.items, max(possible))
            values = judge(space, queries.items, found, possible)
            km = retrieved_km(space, queries.items, found)
            near = nearness_gain(space, queries.items, found, possible)
        by_k = dict(zip(possible, values, strict=True))
        for group, members in queries.groups.items():
            for k in ks:
                row: dict[str, Any] = {"space": name, "group": group, "k": k, "queries": int(members.sum())}
                row |= _means(by_k.get(k, {}), members)
                row["km"] = None if km is None or k not in by_k else float(np.median(km[members, :k]))
                row["near"] = mean(near[k][members]) if k in near else None
                if k not in by_k:
                    row["reason"] = f"the catalogue has only {len(space) - 1} other items"
                elif unknown := [level for level in LEVELS if row[level] is None]:
                    row["reason"] = f"no query has a known {' or '.join(unknown)}"
                rows.append(row)
    return rows


@dataclass(frozen=True)
class Line:
    """An arm's frontier before it is averaged over queries."""

    knobs: tuple[float, ...]
    values: Float64
    """(p, q, MEASURES) what every query is worth at every knob; NaN: unknown."""


def lines(space: Space, queries: Queries) -> dict[str, Line]:
    """Arm → its frontier; none where nothing can be compared (`gaps` gives the reason)."""
    if _incomparable(space):
        return {}
    makers: list[Callable[[Space, Int64, int], frontiers.Arm]] = [
        frontiers.oracle,
        frontiers.levels,
        frontiers.label_fusion,
    ]
    if space.content is not None:
        makers.append(frontiers.content_oracle)
    if space.xyz is not None:
        makers += [frontiers.late_fusion, frontiers.distance_kernel, frontiers.log_distance]
    if space.texts is not None:
        makers += [frontiers.text_fusion, frontiers.whitened_fusion, frontiers.whitened_all]
        if space.content is not None and space.content.shape == space.reference.shape:
            makers.append(frontiers.content_fusion)
    if space.aligned is not None:
        makers.append(frontiers.aligned)
    arms = (make(space, queries.items, FRONTIER_K) for make in makers)
    return {
        arm.name: Line(arm.knobs, np.stack([_values(space, queries, found) for found in arm.found])) for arm in arms
    }


def gaps(space: Space, queries: Queries, found: Mapping[str, Line], floor: float, seed: int) -> dict[str, Any]:
    """What every arm is worth, by group: at both floors, and beside each saved space at what that one keeps.

    Returns:
        `frontier`, at a floor on Similarity@5; `content_frontier`, on ContentSimilarity@5, where that is known;
        `saved`, a space → the same at the Similarity@5 that it keeps, and its own figures (see evaluate/gap.py).
        `reason` stands where there is nothing to compare.
    """
    reason = _incomparable(space)
    result: dict[str, Any] = {"frontier": {}, "saved": {}}
    if space.content is not None:
        result["content_frontier"] = {}
    others = {name: vectors for name, vectors in spaces(space).items() if name != "origin"}
    saved = {} if reason else {name: _retrieved(space, queries, vectors) for name, vectors in others.items()}
    for group, members in queries.groups.items():
        if reason:
            for told in result.values():
                told[group] = {"reason": reason}
            continue
        # Queries of one place are not independent: places are drawn, as they were when they were held out.
        weights = draws(space.labels[queries.items[members], 1 if group == "held_city" else 2], seed)
        curves = {name: curve(line.knobs, line.values[:, members], weights) for name, line in found.items()}
        result["frontier"][group] = compare(curves, floor)
        if space.content is not None:
            result["content_frontier"][group] = compare(curves, floor, "content_similarity")
        result["saved"][group] = {
            name: compare_saved(curves, curve((1.0,), values[None, members], weights)[:, 0])
            for name, values in saved.items()
        }
    return result


def frontier_rows(found: Mapping[str, Line], queries: Queries) -> list[dict[str, Any]]:
    """One row per arm, group and knob."""
    return [
        {"arm": name, "group": group, "knob": knob} | dict(zip(MEASURES, map(mean, at[members].T), strict=True))
        for name, line in found.items()
        for knob, at in zip(line.knobs, line.values, strict=True)
        for group, members in queries.groups.items()
    ]


def _retrieved(space: Space, queries: Queries, vectors: Float32) -> Float64:
    """(q, MEASURES) what the queries' nearest by `vectors` are worth."""
    return _values(space, queries, search(vectors, queries.items, FRONTIER_K))


def _values(space: Space, queries: Queries, found: Int64) -> Float64:
    values = judge(space, queries.items, found, [FRONTIER_K])[0]
    unknown = np.full(len(queries.items), np.nan)
    return np.stack([values.get(name, unknown) for name in MEASURES], axis=1)


def _incomparable(space: Space) -> str | None:
    """Why there is no frontier of this space."""
    if len(space) <= FRONTIER_K:
        return f"too few items for retrieval at K = {FRONTIER_K}"
    return None if space.has_districts else "no item has a known district"


def clusterings(space: Space, config: EvaluateConfig, seed: int) -> list[dict[str, Any]]:
    """NMI and AMI of every space at every level."""
    rows: list[dict[str, Any]] = []
    for name, vectors in spaces(space).items():
        found = agreement(vectors, space.labels, config.clusters, config.cluster_items, seed)
        rows += [{"space": name} | row for row in found]
    return rows


def orders(space: Space, queries: Queries, seed: int) -> list[dict[str, Any]]:
    """Of every space, whether what is nearer is more alike (see `kilometres.distance_orders`)."""
    asked = queries.items[queries.groups["all"]]
    return [{"space": name} | distance_orders(space, vectors, asked, seed) for name, vectors in spaces(space).items()]


def spaces(space: Space) -> dict[str, Float32]:
    """The embeddings that are judged side by side."""
    others = {"fused": space.fused, "aligned": space.aligned}
    return {"origin": space.reference} | {name: vectors for name, vectors in others.items() if vectors is not None}


def _means(values: dict[str, Float64], members: np.ndarray) -> dict[str, float | None]:
    return {name: mean(values[name][members]) if name in values else None for name in MEASURES}
