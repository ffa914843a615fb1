"""The whole judgement of an alignment: retrieval tables, frontiers, gap closed, clusterings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.artifacts.frontier import MEASURES
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.config.evaluate import EvaluateConfig
from lgsid_ray.evaluate.clustering import Sample, agreement
from lgsid_ray.evaluate.frontiers import FRONTIER_K, Arm, arms
from lgsid_ray.evaluate.gap import compare, compare_saved, curve, draws
from lgsid_ray.evaluate.kilometres import Orders, distance_orders, nearness_gain, retrieved_km
from lgsid_ray.evaluate.retrieval import Answers, Found, answer, by_cosine, judge, mean
from lgsid_ray.evaluate.space import JUDGED, Corpus, Queries


@dataclass(frozen=True)
class Line:
    """An arm's frontier before it is averaged over queries."""

    knobs: tuple[float, ...]
    values: Float64
    """(p, q, MEASURES) what every query is worth at every knob; NaN: unknown."""


@dataclass(frozen=True)
class Retrieved:
    """What all queries find in the whole catalogue, in one pass over it."""

    spaces: Mapping[str, Found]
    """By the names of JUDGED, one knob each, as many items as are asked for anywhere; none where there are too few."""
    arms: Mapping[str, Arm]
    lines: Mapping[str, Found]
    """By the names of `arms`; none where nothing can be compared (`gaps` gives the reason)."""


def retrieve(corpus: Corpus, queries: Queries, ks: Sequence[int]) -> Retrieved:
    """The nearest in every space, as many as the largest of the `ks` that there are others; and every frontier's."""
    wanted = max([k for k in (FRONTIER_K, *ks) if k < len(corpus)], default=0)
    compared = {} if _incomparable(corpus) else arms(corpus)
    nearest = {name: f"saved/{name}" for name in corpus.judged} if wanted else {}
    makers = {key: partial(by_cosine, space=name, k=wanted) for name, key in nearest.items()}
    asked: Answers = corpus.fold(
        answer,
        corpus.of(queries.items),
        makers | {name: arm.make for name, arm in compared.items()},
        dict.fromkeys(makers, wanted) | dict.fromkeys(compared, FRONTIER_K),
    )
    spaces = {name: asked.found[key] for name, key in nearest.items()}
    return Retrieved(spaces, compared, {name: asked.found[name] for name in compared})


def retrieval_tables(corpus: Corpus, queries: Queries, retrieved: Retrieved, ks: list[int]) -> list[dict[str, Any]]:
    """One row per space, group and K: the mean of every measure, the median `km` of what is found, and `near`.

    `near` is NDCG@K with a gain by distance. None where K exceeds the other items.
    """
    possible = [k for k in ks if k < len(corpus)]
    rows: list[dict[str, Any]] = []
    for name in corpus.judged:
        values: list[dict[str, Float64]] = []
        km: Float64 | None = None
        near: dict[int, Float64] = {}
        if possible:
            found = retrieved.spaces[name]
            (values,) = judge(corpus.labels, queries.items, found, possible)
            km = retrieved_km(corpus.xyz, queries.items, found.item[0])
            near = nearness_gain(corpus.xyz, queries.items, found.item[0], possible)
        by_k = dict(zip(possible, values, strict=True))
        for group, members in queries.groups.items():
            for k in ks:
                row: dict[str, Any] = {"space": name, "group": group, "k": k, "queries": int(members.sum())}
                row |= _means(by_k.get(k, {}), members)
                row["km"] = None if km is None or k not in by_k else float(np.median(km[members, :k]))
                row["near"] = mean(near[k][members]) if k in near else None
                if k not in by_k:
                    row["reason"] = f"the catalogue has only {len(corpus) - 1} other items"
                elif unknown := [level for level in LEVELS if row[level] is None]:
                    row["reason"] = f"no query has a known {' or '.join(unknown)}"
                rows.append(row)
    return rows


def lines(corpus: Corpus, queries: Queries, retrieved: Retrieved) -> dict[str, Line]:
    """Arm → its frontier."""
    return {
        name: Line(retrieved.arms[name].knobs, _values(corpus, queries, found))
        for name, found in retrieved.lines.items()
    }


def gaps(
    corpus: Corpus, queries: Queries, retrieved: Retrieved, found: Mapping[str, Line], floor: float, seed: int
) -> dict[str, Any]:
    """What every arm is worth, by group: at both floors, and beside each saved space at what that one keeps.

    Args:
        found: the frontiers of what was retrieved.

    Returns:
        `frontier`, at a floor on Similarity@5; `content_frontier`, on ContentSimilarity@5, where that is known;
        `saved`, a space → the same at the Similarity@5 that it keeps, and its own figures (see evaluate/gap.py).
        `reason` stands where there is nothing to compare.
    """
    reason = _incomparable(corpus)
    result: dict[str, Any] = {"frontier": {}, "saved": {}}
    if "content" in corpus.spaces:
        result["content_frontier"] = {}
    others = {} if reason else {name: space for name, space in retrieved.spaces.items() if name != "origin"}
    saved = {name: _values(corpus, queries, space)[0] for name, space in others.items()}
    for group, members in queries.groups.items():
        if reason:
            for told in result.values():
                told[group] = {"reason": reason}
            continue
        # Queries of one place are not independent: places are drawn, as they were when they were held out.
        weights = draws(corpus.labels[queries.items[members], 1 if group == "held_city" else 2], seed)
        curves = {name: curve(line.knobs, line.values[:, members], weights) for name, line in found.items()}
        result["frontier"][group] = compare(curves, floor)
        if "content" in corpus.spaces:
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


def _values(corpus: Corpus, queries: Queries, found: Found) -> Float64:
    """(p, q, MEASURES)"""
    unknown = np.full(len(queries.items), np.nan)
    return np.stack(
        [
            np.stack([values.get(name, unknown) for name in MEASURES], axis=1)
            for (values,) in judge(corpus.labels, queries.items, found, [FRONTIER_K])
        ]
    )


def _incomparable(corpus: Corpus) -> str | None:
    """Why there is no frontier of this catalogue."""
    if len(corpus) <= FRONTIER_K:
        return f"too few items for retrieval at K = {FRONTIER_K}"
    return None if corpus.has_districts else "no item has a known district"


def sampled(corpus: Corpus, queries: Queries, config: EvaluateConfig, seed: int) -> dict[str, list[dict[str, Any]]]:
    """What is told of a sample of items: `clustering`, NMI and AMI of every space at every level, and
    `distance_order`, whether what is nearer is more alike (see `kilometres.distance_orders`)."""
    samples = [Sample.drawn(corpus.labels[:, level], config.cluster_items, seed) for level in range(len(LEVELS))]
    orders = Orders.drawn(corpus.labels, corpus.xyz, queries.items[queries.groups["all"]], seed)
    index = np.unique(np.concatenate([orders.index, *(sample.index for sample in samples)]))
    told: dict[str, list[dict[str, Any]]] = {"distance_order": [], "clustering": []}
    for name in corpus.judged:
        vectors = corpus.of(index, [JUDGED[name]]).by(name)

        def of(items: Int64) -> np.ndarray:
            return vectors[np.searchsorted(index, items)]  # noqa: B023

        told["distance_order"].append({"space": name} | distance_orders(orders, of))
        told["clustering"] += [{"space": name} | row for row in agreement(of, samples, config.clusters, seed)]
    return told


def _means(values: dict[str, Float64], members: np.ndarray) -> dict[str, float | None]:
    return {name: mean(values[name][members]) if name in values else None for name in MEASURES}
