"""Figures of a ranker or a baseline on one split."""

import numpy as np
import torch
from torch import nn

from lgsid_ray.arrays import Bool, Float64, Int64
from lgsid_ray.recommend.metrics import auc, gauc, logloss
from lgsid_ray.recommend.rankers.samples import Samples

CHUNK = 8192
"""Samples scored at once."""

Figures = dict[str, float | None]


@torch.no_grad()
def probabilities(model: nn.Module, samples: Samples, rows: Int64, length: int) -> Float64:
    """(b,) click probabilities of a `Ranker` in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    parts = [np.empty(0)]
    for begin in range(0, len(rows), CHUNK):
        part = rows[begin : begin + CHUNK]
        target = torch.from_numpy(samples.item[part]).to(device)
        history = torch.from_numpy(samples.histories(part, length)).to(device)
        parts.append(torch.sigmoid(model(target, history).double()).cpu().numpy())
    return np.concatenate(parts)


def figures(samples: Samples, rows: Int64, score: Float64, cold: Bool, calibrated: bool) -> Figures:
    """AUC, GAUC, AUC on cold targets, and log-loss where the scores are probabilities; None where undefined.

    Args:
        cold: (n,) by item_index.
    """
    label, item = samples.label[rows], samples.item[rows]
    apart = cold[item]
    found: Figures = {
        "auc": auc(label, score),
        "gauc": gauc(samples.user[rows], label, score),
        "auc_cold": auc(label[apart], score[apart]),
    }
    if calibrated and len(rows):
        found["logloss"] = logloss(label, score)
    return found


def spread(runs: list[Figures]) -> dict[str, Figures]:
    """Mean and standard deviation (over n) of each figure over the seeds; None where any is undefined."""
    summary: dict[str, Figures] = {"mean": {}, "std": {}}
    for name in runs[0]:
        values = [run[name] for run in runs]
        known = [value for value in values if value is not None]
        whole = len(known) == len(values)
        summary["mean"][name] = float(np.mean(known)) if whole else None
        summary["std"][name] = float(np.std(known)) if whole else None
    return summary
