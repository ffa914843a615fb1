"""What SIDs add, on the same draws of users: against scikit-learn on the samples of the users drawn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.metrics import gauc
from lgsid_ray.recommend.rankers import paired
from lgsid_ray.recommend.rankers.paired import gain_intervals, read_scores, write_scores


def log(seed: int, users: int = 25) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """User, label, and two scores that know a little of it, with ties; users of one kind of label among them."""
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, users, 400)) * 3
    label = ((rng.random(400) < 0.4) & (user > 6)).astype(float)
    weak, strong = (np.round(label * knows + rng.normal(size=400), 1) for knows in (0.3, 1.0))
    return user, label, weak, strong


def test_every_draw_is_judged_as_its_samples_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "DRAWS", 30)
    user, label, weak, strong = log(0)
    rng, known = np.random.default_rng(0), np.unique(user)
    whole, within = [], []
    for _ in range(30):
        drawn = rng.integers(0, len(known), len(known))
        rows = [np.flatnonzero(user == known[each]) for each in drawn]
        copies = np.concatenate([np.full(len(row), copy) for copy, row in enumerate(rows)])
        some = np.concatenate(rows)
        whole.append(roc_auc_score(label[some], strong[some]) - roc_auc_score(label[some], weak[some]))
        two = [gauc(copies, label[some], score[some]) for score in (strong, weak)]
        assert two[0] is not None
        assert two[1] is not None
        within.append(two[0] - two[1])
    found = gain_intervals(user, label, [strong], [weak])
    assert found["auc"] == pytest.approx(tuple(np.quantile(whole, [0.025, 0.975])), abs=1e-12)
    assert found["gauc"] == pytest.approx(tuple(np.quantile(within, [0.025, 0.975])), abs=1e-12)


def test_seeds_are_averaged_and_a_model_adds_nothing_to_itself() -> None:
    user, label, weak, strong = log(1)
    assert gain_intervals(user, label, [strong, weak], [weak, strong]) == {
        name: pytest.approx((0, 0), abs=1e-12) for name in ("auc", "gauc")
    }
    low, high = gain_intervals(user, label, [strong], [weak])["auc"]
    assert 0 < low < roc_auc_score(label, strong) - roc_auc_score(label, weak) < high
    halved = gain_intervals(user, label, [strong, weak], [weak, weak])["auc"]
    assert halved == pytest.approx((low / 2, high / 2))


def test_where_some_draws_cannot_be_judged_nothing_is_said() -> None:
    user, label = np.array([0, 0, 1, 1]), np.array([1.0, 0.0, 0.0, 0.0])
    assert gain_intervals(user, label, [label], [1 - label]) == {}  # half of the draws have no click at all


def test_scores_come_back_in_their_order(tmp_path: pytest.TempPathFactory) -> None:
    score = np.random.default_rng(0).random(1000)
    write_scores(folder := StageDir(str(tmp_path)).make(), score)
    np.testing.assert_array_equal(read_scores(folder), score.astype(np.float32))
