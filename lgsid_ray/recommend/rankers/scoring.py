"""Figures of a ranker or a baseline on one split."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from lgsid_ray.arrays import Bool, Float64, Int64
from lgsid_ray.recommend.batches import moved
from lgsid_ray.recommend.metrics import auc, calibration_error, gauc, logloss
from lgsid_ray.recommend.rankers.batches import RankBatches
from lgsid_ray.recommend.rankers.samples import Samples
from lgsid_ray.recommend.summary import Figures

CHUNK = 8192
"""Samples scored at once, fewer where histories are long."""
_EVENTS = 1 << 18
"""Events of them at most."""


@torch.no_grad()
def probabilities(model: nn.Module, batches: RankBatches, rows: Int64) -> Float64:
    """(b,) click probabilities of a `Ranker` in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    parts, step = [np.empty(0)], min(CHUNK, max(1, _EVENTS // batches.events))
    for begin in range(0, len(rows), step):
        batch = moved(batches.batch(rows[begin : begin + step]), device)
        parts.append(torch.sigmoid(model(batch).double()).cpu().numpy())
    return np.concatenate(parts)


def figures(samples: Samples, rows: Int64, score: Float64, slices: Mapping[str, Bool], calibrated: bool) -> Figures:
    """AUC, GAUC and AUC on slices; of probabilities also log-loss and calibration error; None where undefined.

    Args:
        slices: name → (b,) which of the rows.
    """
    label = samples.label[rows]
    found: Figures = {"auc": auc(label, score), "gauc": gauc(samples.user[rows], label, score)}
    found |= {f"auc_{name}": auc(label[some], score[some]) for name, some in slices.items()}
    if calibrated and len(rows):
        found |= {"logloss": logloss(label, score), "calibration": calibration_error(label, score)}
    return found
