"""Trivial rankers that every model must beat: popularity, repeat, nearness."""

import numpy as np

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.recommend.log import TRAIN
from lgsid_ray.recommend.rankers.samples import Samples

_PRIOR = 10.0  # pseudo-samples at the overall rate behind every item's click rate


def scores(samples: Samples, rows: Int64, items: int, xyz: Float64 | None, length: int) -> dict[str, Float64]:
    """Scores of each baseline for `rows`, (b,) each, larger meaning likelier.

    popularity: the item's smoothed click rate in training, a probability. repeat: how often the target stands in the
    latest `length` of the history. nearness: the target's negative chord to the nearest item of the history; left out
    without coordinates.

    Args:
        xyz: (items, 3) unit-sphere points of the items.
    """
    history, target = samples.histories(rows, length), samples.item[rows]
    repeat = (history == target[:, None]).sum(axis=1)
    found = {"popularity": click_rate(samples, items)[target], "repeat": repeat.astype(np.float64)}
    if xyz is not None:
        chord = np.linalg.norm(xyz[history] - xyz[target][:, None], axis=-1)
        found["nearness"] = -np.where(history >= 0, chord, 2.0).min(axis=1)
    return found


def click_rate(samples: Samples, items: int) -> Float64:
    """(n,) share of positives among each item's training samples, smoothed towards the overall share."""
    train = samples.of(TRAIN)
    item, label = samples.item[train], samples.label[train]
    overall = float(label.mean()) if len(label) else 0.5
    clicks = np.bincount(item, weights=label, minlength=items)
    return (clicks + _PRIOR * overall) / (np.bincount(item, minlength=items) + _PRIOR)
