"""How geographic SIDs are: do the items behind one prefix lie in one province, one city, within a few kilometres?"""

from typing import Any

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.artifacts.keys import prefix_numbers
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.geo.spread import centres, distances_km, group_medians, point_sums

COMPARED = 20_000
"""Items, evenly spaced, on which prefixes and labels are compared as clusterings."""


def sid_geography(tokens: Int64, labels: Int64, xyz: Float64 | None) -> list[dict[str, Any]]:
    """Per prefix length: clusters, purity and radius.

    Args:
        tokens: (n, levels).
        labels: (n, 3) path codes, -1 unknown.
        xyz: (n, 3) unit sphere; None in a catalogue without coordinates.

    Returns:
        One mapping per prefix length, with `clusters`, the number of prefixes; `bits`: the entropy of an item's
        prefix; `one_<level>`: share of the clusters whose items all bear one label; `items_one_<level>`: share of the
        items that are in such clusters; `majority_<level>`: share of the items that bear their cluster's commonest
        label; `ami_<level>`: adjusted mutual information of prefixes and labels, 0 for codes without geography and 1
        where either tells the other; `radius_km`: median over the clusters of the median great-circle distance to the
        cluster's spherical centroid; `radius_km_items`: median over all items of that distance.
        Items whose label is unknown bear none in common. What cannot be told is None, with a `reason`: shares of a
        level that no item has, kilometres without coordinates.
    """
    groups = enumerate(prefix_numbers(tokens).T, start=1)
    return [{"prefix": length} | _clusters(group, labels, xyz) for length, group in groups]


def _clusters(group: Int64, labels: Int64, xyz: Float64 | None) -> dict[str, Any]:
    sizes = np.bincount(group)
    share = sizes / sizes.sum()
    row: dict[str, Any] = {"clusters": len(sizes), "mean_items": float(sizes.mean())}
    row["bits"] = float(-(share * np.log2(share)).sum() + 0.0)
    lacking = []
    for level, name in enumerate(LEVELS):
        if (labels[:, level] >= 0).any():
            row |= _shares(name, _majority(group, labels[:, level], len(sizes)), sizes)
            row[f"ami_{name}"] = _agreement(group, labels[:, level])
        else:
            row |= dict.fromkeys((f"one_{name}", f"items_one_{name}", f"majority_{name}", f"ami_{name}"))
            lacking.append(name)
    if xyz is not None:
        distances = distances_km(group, xyz, centres(point_sums(group, xyz, len(sizes))))
        row["radius_km"] = float(np.median(group_medians(group, distances, len(sizes))))
        row["radius_km_items"] = float(np.median(distances))
    else:
        row |= {"radius_km": None, "radius_km_items": None}
        lacking.append("coordinates")
    return row | ({"reason": f"no item has {' or '.join(lacking)}"} if lacking else {})


def _shares(name: str, most: Int64, sizes: Int64) -> dict[str, float]:
    whole = most == sizes
    return {
        f"one_{name}": float(whole.mean()),
        f"items_one_{name}": float(sizes[whole].sum() / sizes.sum()),
        f"majority_{name}": float(most.sum() / sizes.sum()),
    }


def _agreement(group: Int64, label: Int64) -> float | None:
    """AMI of the two over items whose label is known; None where there is but one label."""
    known = np.flatnonzero(label >= 0)
    rows = known[:: -(-len(known) // COMPARED)]
    if len(np.unique(label[rows])) < 2:
        return None
    return float(adjusted_mutual_info_score(label[rows], group[rows]))


def _majority(group: Int64, label: Int64, count: int) -> Int64:
    known = label >= 0
    pairs, sizes = np.unique(np.stack([group[known], label[known]]), axis=1, return_counts=True)
    most = np.zeros(count, dtype=np.int64)
    np.maximum.at(most, pairs[0], sizes)
    return most
