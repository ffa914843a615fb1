"""How rankers and generators are judged: AUC, GAUC, log-loss; Hit@K and NDCG@K. Pure functions on arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from lgsid_ray.arrays import AnyFloat, AnyInt, Int64


def auc(label: NDArray, score: AnyFloat) -> float | None:
    """Area under the ROC curve; None where the labels are all alike and no order can be judged.

    Args:
        label: (n,) 0 or 1.
        score: (n,) larger means likelier a click.
    """
    if len(label) == 0 or label.min() == label.max():
        return None
    return float(roc_auc_score(label, score))


def gauc(user: AnyInt, label: NDArray, score: AnyFloat) -> float | None:
    """AUC within each user, averaged with the user's number of samples as weight (Zhu et al., 2017).

    Users whose labels are all alike are left out; None where that leaves nobody.
    """
    if not len(user):
        return None
    _, area, sizes = user_aucs(user, label, score)
    return float(np.average(area, weights=sizes)) if len(area) else None


def user_aucs(user: AnyInt, label: NDArray, score: AnyFloat) -> tuple[AnyInt, AnyFloat, AnyInt]:
    """Of the users whose labels are not all alike, ascending: (u,) the user, the AUC within, the number of samples."""
    order = np.argsort(user, kind="stable")
    user, label, score = user[order], label[order], score[order]
    starts = np.flatnonzero(np.r_[True, user[1:] != user[:-1]])
    clicks = np.add.reduceat(label, starts)
    sizes = np.diff(np.r_[starts, len(user)])
    mixed = (clicks > 0) & (clicks < sizes)
    group = np.repeat(np.arange(len(starts)), sizes)
    rank = _mean_ranks(group, score)
    positives = np.bincount(group, weights=label, minlength=len(starts))
    rank_sum = np.bincount(group, weights=rank * label, minlength=len(starts))
    pairs = positives * (sizes - positives)
    area = (rank_sum - positives * (positives + 1) / 2)[mixed] / pairs[mixed]
    return user[starts[mixed]], area, sizes[mixed]


def logloss(label: NDArray, probability: AnyFloat) -> float:
    """Mean binary cross-entropy in nats; probabilities are clipped to float64's resolution."""
    return float(log_loss(label, np.asarray(probability, dtype=np.float64), labels=[0, 1]))


def calibration_error(label: NDArray, probability: AnyFloat, bins: int = 10) -> float:
    """Expected calibration error: over bins of equally many samples, in the order of their probability, the mean
    distance between their mean probability and their share of clicks (Naeini et al., AAAI 2015)."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    apart = [abs(float(np.mean(probability[part])) - float(np.mean(label[part]))) for part in parts]
    return float(np.average(apart, weights=[len(part) for part in parts]))


def target_ranks(lists: AnyInt, target: AnyInt) -> Int64:
    """0-based place of each target in its list; the list's length where it is absent.

    Args:
        lists: (q, k) recommended items, best first, -1 where a list is shorter.
        target: (q,) the item that was really chosen.
    """
    found = lists == np.asarray(target)[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), lists.shape[1])


def hit_and_ndcg(lists: AnyInt, target: AnyInt, ks: Sequence[int]) -> dict[str, float]:
    """`hit@K` and `ndcg@K` with one relevant item per query: NDCG is 1 / log2(rank + 2) within K, else 0.

    Raises:
        ValueError: a K exceeds the lists' length, or there is no query.
    """
    if not len(target):
        raise ValueError("no query to judge")
    if max(ks) > lists.shape[1]:
        raise ValueError(f"K = {max(ks)} asked of lists of length {lists.shape[1]}")
    rank = target_ranks(lists, target)
    gain = 1 / np.log2(rank + 2)
    figures = {f"hit@{k}": float((rank < k).mean()) for k in ks}
    return figures | {f"ndcg@{k}": float(np.where(rank < k, gain, 0.0).mean()) for k in ks}


def list_figures(lists: AnyInt, target: AnyInt, ks: Sequence[int], told: int) -> dict[str, float]:
    """`hit_and_ndcg` and `mrr`, 1 / (rank + 1) within the list and 0 where it is absent; for `hit@{told}` and
    `ndcg@{told}` also what 95 % of bootstrap samples of the queries lie between, `…_low` and `…_high`.
    """
    figures = hit_and_ndcg(lists, target, ks)
    rank = target_ranks(lists, target)
    figures["mrr"] = float(np.where(rank < lists.shape[1], 1 / (rank + 1), 0.0).mean())
    for name, gain in zip((f"hit@{told}", f"ndcg@{told}"), _gains(rank, told), strict=True):
        figures[f"{name}_low"], figures[f"{name}_high"] = interval(gain)
    return figures


def gain_figures(lists: AnyInt, rival: AnyInt, target: AnyInt, told: int) -> dict[str, float]:
    """By how much `lists` are ahead of a rival's for the same queries: `hit@{told}`, `ndcg@{told}`, and what 95 % of
    bootstrap samples of the queries lie between, `…_low` and `…_high`. Paired, so it tells what both intervals do not.
    """
    figures: dict[str, float] = {}
    gains = [_gains(target_ranks(each, target), told) for each in (lists, rival)]
    for name, (mine, theirs) in zip((f"hit@{told}", f"ndcg@{told}"), zip(*gains, strict=True), strict=True):
        figures[name] = float((mine - theirs).mean())
        figures[f"{name}_low"], figures[f"{name}_high"] = interval(mine - theirs)
    return figures


def interval(values: AnyFloat, share: float = 0.95, draws: int = 1000) -> tuple[float, float]:
    """Between what the mean of `values` lies in `share` of the bootstrap samples of them."""
    rng, count = np.random.default_rng(0), len(values)
    means = [float(values[rng.integers(0, count, count)].mean()) for _ in range(draws)]
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def _gains(rank: AnyInt, told: int) -> tuple[AnyFloat, AnyFloat]:
    """Hit and NDCG at `told` of each query, by the 0-based place of its target."""
    found = rank < told
    return found.astype(np.float64), np.where(found, 1 / np.log2(rank + 2), 0.0)


def _mean_ranks(group: AnyInt, score: AnyFloat) -> AnyFloat:
    """1-based rank of each score within its group, ties sharing their mean; `group` ascends from 0."""
    order = np.lexsort((score, group))
    sorted_group, sorted_score = group[order], score[order]
    fresh = np.r_[True, (sorted_group[1:] != sorted_group[:-1]) | (sorted_score[1:] != sorted_score[:-1])]
    run = np.cumsum(fresh) - 1
    first = np.flatnonzero(fresh)
    last = np.r_[first[1:], len(order)] - 1
    starts = np.searchsorted(sorted_group, np.arange(group[-1] + 1))
    rank = np.empty(len(order))
    rank[order] = (first + last)[run] / 2 - starts[sorted_group] + 1
    return rank
