"""How geographic SIDs are: do the items behind one prefix lie in one province, one city, within a few kilometres?"""

from typing import Any

import numpy as np

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.evaluate.space import LEVELS
from lgsid_ray.geo.distance import chord_to_km


def sid_geography(tokens: Int64, labels: Int64, xyz: Float64) -> list[dict[str, Any]]:
    """Per prefix length: clusters, purity and radius.

    Args:
        tokens: (n, levels).
        labels: (n, 3) path codes, -1 unknown.
        xyz: (n, 3) unit sphere.

    Returns:
        One mapping per prefix length, with `one_<level>`: share of the clusters whose items all bear one label;
        `items_one_<level>`: share of the items that are in such clusters; `majority_<level>`: share of the items
        that bear their cluster's commonest label; `radius_km`: median over the clusters of the median great-circle
        distance to the cluster's spherical centroid; `radius_km_items`: median over all items of that distance.
        Items whose label is unknown bear none in common.
    """
    rows = []
    group = np.zeros(len(tokens), dtype=np.int64)
    for level in range(tokens.shape[1]):
        _, group = np.unique(group * (tokens[:, level].max() + 1) + tokens[:, level], return_inverse=True)
        rows.append({"prefix": level + 1} | _clusters(group, labels, xyz))
    return rows


def _clusters(group: Int64, labels: Int64, xyz: Float64) -> dict[str, Any]:
    sizes = np.bincount(group)
    row: dict[str, Any] = {"clusters": len(sizes), "mean_items": float(sizes.mean())}
    for level, name in enumerate(LEVELS):
        most = _majority(group, labels[:, level], len(sizes))
        whole = most == sizes
        row[f"one_{name}"] = float(whole.mean())
        row[f"items_one_{name}"] = float(sizes[whole].sum() / sizes.sum())
        row[f"majority_{name}"] = float(most.sum() / sizes.sum())
    distances = distances_km(group, xyz)
    row["radius_km"] = float(np.median(_medians(group, distances, sizes)))
    row["radius_km_items"] = float(np.median(distances))
    return row


def distances_km(group: Int64, xyz: Float64) -> Float64:
    """(n,) great-circle distance of each item to the spherical centroid of its cluster."""
    sums = np.stack([np.bincount(group, weights=xyz[:, axis]) for axis in range(3)], axis=1)
    centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return np.asarray(chord_to_km(np.linalg.norm(xyz - centres[group], axis=1)))


def _majority(group: Int64, label: Int64, count: int) -> Int64:
    known = label >= 0
    pairs, sizes = np.unique(np.stack([group[known], label[known]]), axis=1, return_counts=True)
    most = np.zeros(count, dtype=np.int64)
    np.maximum.at(most, pairs[0], sizes)
    return most


def _medians(group: Int64, values: Float64, sizes: Int64) -> Float64:
    ordered = values[np.lexsort((values, group))]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.asarray((ordered[starts + (sizes - 1) // 2] + ordered[starts + sizes // 2]) / 2)
