"""The whole judgement of an alignment: retrieval tables, frontiers, gap closed, clusterings."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.artifacts.frontier import MEASURES
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.config.evaluate import EvaluateConfig
from lgsid_ray.evaluate import frontiers
from lgsid_ray.evaluate.clustering import agreement
from lgsid_ray.evaluate.gap import compare
from lgsid_ray.evaluate.kilometres import distance_orders, retrieved_km
from lgsid_ray.evaluate.retrieval import judge, mean, search
from lgsid_ray.evaluate.space import Queries, Space

FRONTIER_K = 5
"""Similarity@5 and T@5 span the frontiers."""


def retrieval_tables(space: Space, queries: Queries, ks: list[int]) -> list[dict[str, Any]]:
    """One row per space, group and K: the mean of every measure, and `km`, the median distance of what is found.

    None where K exceeds the other items.
    """
    possible = [k for k in ks if k < len(space)]
    rows: list[dict[str, Any]] = []
    for name, vectors in spaces(space).items():
        values: list[dict[str, Float64]] = []
        km: Float64 | None = None
        if possible:
            found = search(vectors, queries.items, max(possible))
            values = judge(space, queries.items, found, possible)
            km = retrieved_km(space, queries.items, found)
        by_k = dict(zip(possible, values, strict=True))
        for group, members in queries.groups.items():
            for k in ks:
                row: dict[str, Any] = {"space": name, "group": group, "k": k, "queries": int(members.sum())}
                row |= _means(by_k.get(k, {}), members)
                row["km"] = None if km is None or k not in by_k else float(np.median(km[members, :k]))
                if k not in by_k:
                    row["reason"] = f"the catalogue has only {len(space) - 1} other items"
                elif unknown := [level for level in LEVELS if row[level] is None]:
                    row["reason"] = f"no query has a known {' or '.join(unknown)}"
                rows.append(row)
    return rows


def frontier_rows(space: Space, queries: Queries) -> list[dict[str, Any]]:
    """One row per arm, group and knob; no rows where nothing can be compared (`gaps` gives the reason)."""
    if _incomparable(space):
        return []
    makers: list[Callable[[Space, Int64, int], frontiers.Arm]] = [
        frontiers.oracle,
        frontiers.levels,
        frontiers.label_fusion,
    ]
    if space.xyz is not None:
        makers += [frontiers.late_fusion, frontiers.distance_kernel, frontiers.log_distance]
    if space.texts is not None:
        makers += [frontiers.text_fusion, frontiers.whitened_fusion]
    if space.aligned is not None:
        makers.append(frontiers.aligned)
    rows = []
    for make in makers:
        arm = make(space, queries.items, FRONTIER_K)
        for knob, found in zip(arm.knobs, arm.found, strict=True):
            values = judge(space, queries.items, found, [FRONTIER_K])[0]
            for group, members in queries.groups.items():
                rows.append({"arm": arm.name, "group": group, "knob": knob} | _means(values, members))
    return rows


def gaps(space: Space, rows: list[dict[str, Any]], groups: list[str], floor: float) -> dict[str, dict[str, Any]]:
    """Group → what every arm is worth at the floor; `reason` where there is nothing to compare."""
    if reason := _incomparable(space):
        return {group: {"reason": reason} for group in groups}
    result: dict[str, dict[str, Any]] = {}
    for group in groups:
        arms: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row["group"] == group:
                point = {name: row[name] for name in ("knob", *MEASURES)}
                arms.setdefault(row["arm"], []).append(point)
        result[group] = compare(arms, floor)
    return result


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
