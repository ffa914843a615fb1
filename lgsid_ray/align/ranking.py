"""How well scores rank lists by distance: on held-out anchors, against chance. And the gate that rests on it."""

import math

import numpy as np
from scipy.stats import kendalltau

from lgsid_ray.arrays import AnyFloat
from lgsid_ray.errors import GateError


def ranking_metrics(scores: AnyFloat, labels: AnyFloat) -> dict[str, float]:
    """List accuracy, NDCG and Kendall τ of (lists, K) scores against (lists, K) labels, with what chance gives.

    Accuracy is the share of lists whose top score falls on a nearest candidate; tied top scores count in part, since
    negatives of one district have one prompt and one score. τ is the tie-corrected τ-b, its mean
    over the lists with its standard error; lists whose labels are all equal say nothing and are left out of τ.
    """
    best = labels == labels.max(axis=1, keepdims=True)
    top = scores == scores.max(axis=1, keepdims=True)
    taus = np.array([kendalltau(s, p).statistic for s, p in zip(scores, labels, strict=True) if np.ptp(p) > 0])
    taus = np.nan_to_num(taus)
    return {
        "lists": float(len(scores)),
        "accuracy": float(((best & top).sum(axis=1) / top.sum(axis=1)).mean()),
        "accuracy_chance": float(best.mean()),
        "ndcg": float(_ndcg(scores, labels).mean()),
        "ndcg_chance": float(_expected_ndcg(labels).mean()),
        "tau": float(taus.mean()) if len(taus) else 0.0,
        "tau_error": float(taus.std(ddof=1) / math.sqrt(len(taus))) if len(taus) > 1 else math.inf,
    }


def require_better_than_chance(metrics: dict[str, float], allow: bool) -> None:
    """The gate: held-out τ must exceed zero by two standard errors.

    Raises:
        GateError: it does not, and `allow` is False.
    """
    if metrics["tau"] > 2 * metrics["tau_error"] or allow:
        return
    raise GateError(
        f"the reward model ranks held-out lists no better than chance: Kendall tau {metrics['tau']:.3f} +- "
        f"{metrics['tau_error']:.3f}, accuracy {metrics['accuracy']:.3f} (chance {metrics['accuracy_chance']:.3f}). "
        "Alignment by it would be noise. Use reward.input=pair, more anchors (sampling.max_anchors) or more epochs "
        "(reward.epochs); or go on regardless with reward.allow_chance=true"
    )


def _discounts(width: int) -> AnyFloat:
    return 1 / np.log2(np.arange(2, width + 2))


def _ndcg(scores: AnyFloat, labels: AnyFloat) -> AnyFloat:
    order = np.argsort(-scores, axis=1, kind="stable")
    gained = (np.take_along_axis(labels, order, axis=1) * _discounts(labels.shape[1])).sum(axis=1)
    return gained / _ideal(labels)


def _expected_ndcg(labels: AnyFloat) -> AnyFloat:
    """NDCG of a random order: every position earns the mean label."""
    return labels.mean(axis=1) * _discounts(labels.shape[1]).sum() / _ideal(labels)


def _ideal(labels: AnyFloat) -> AnyFloat:
    return (-np.sort(-labels, axis=1) * _discounts(labels.shape[1])).sum(axis=1)
