"""What SIDs add to a ranker, and how sure that is: both with and without judged on the same draws of users."""

from collections.abc import Sequence

import numpy as np
from safetensors.numpy import load, save

from lgsid_ray.arrays import AnyFloat, AnyInt, Float64, Int64
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.metrics import user_aucs

SCORES = "scores.safetensors"
"""Of a cell: its test probabilities, in the order of the test samples."""
DRAWS, SHARE = 500, 0.95


def write_scores(folder: StageDir, test: Float64) -> None:
    """Keep a cell's test probabilities."""
    with folder.write(SCORES) as file:
        file.write(save({"test": test.astype(np.float32)}))


def read_scores(folder: StageDir) -> AnyFloat:
    """(b,) float32 test probabilities of a cell."""
    scores: AnyFloat = load(folder.read(SCORES))["test"]
    return scores


def gain_intervals(
    user: AnyInt, label: AnyFloat, after: Sequence[AnyFloat], before: Sequence[AnyFloat]
) -> dict[str, tuple[float, float]]:
    """`auc`, `gauc` → what 95 % of bootstrap samples of the users have the mean gain of `after` over `before` between.

    Users are drawn whole, since their samples are alike; both sides are judged on the same draws.

    Args:
        user, label: (b,) of the samples. after, before: of each seed, (b,) scores.
    """
    users, who = np.unique(user, return_inverse=True)
    rng = np.random.default_rng(0)
    times = [np.bincount(rng.integers(0, len(users), len(users)), minlength=len(users)) for _ in range(DRAWS)]
    gains: dict[str, Float64] = {"auc": np.zeros(DRAWS), "gauc": np.zeros(DRAWS)}
    for sign, scores in ((1, after), (-1, before)):
        for score in scores:
            whole, within = _Whole(who, label, score), _Within(who, label, score)
            for name, judge in (("auc", whole), ("gauc", within)):
                gains[name] += sign / len(scores) * np.array([judge(drawn) for drawn in times])
    ends = [(1 - SHARE) / 2, (1 + SHARE) / 2]
    quantiles = {name: np.quantile(gain, ends).tolist() for name, gain in gains.items() if np.isfinite(gain).all()}
    return {name: (low, high) for name, (low, high) in quantiles.items()}


class _Whole:
    """AUC of samples whose users are there several times, by one pass over scores that are sorted once."""

    def __init__(self, who: Int64, label: AnyFloat, score: AnyFloat) -> None:
        order = np.argsort(score, kind="stable")
        self._who, self._label = who[order], np.asarray(label, dtype=np.float64)[order]
        self._place = np.cumsum(np.r_[0, score[order][1:] != score[order][:-1]])  # equal scores share one

    def __call__(self, times: Int64) -> float:
        weight = times[self._who]
        clicked = np.bincount(self._place, weight * self._label)
        passed = np.bincount(self._place, weight * (1 - self._label))
        below = np.cumsum(passed) - passed / 2
        with np.errstate(invalid="ignore"):
            return float(clicked @ below / (clicked.sum() * passed.sum()))


class _Within:
    """GAUC likewise: of each user once, with how often they are there."""

    def __init__(self, who: Int64, label: AnyFloat, score: AnyFloat) -> None:
        self._user, self._area, self._size = user_aucs(who, label, score)

    def __call__(self, times: Int64) -> float:
        weight = times[self._user] * self._size
        with np.errstate(invalid="ignore"):
            return float(weight @ self._area / weight.sum())
