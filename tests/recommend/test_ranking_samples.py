"""Ranking samples: what a log holds, what a history may hold, how negatives are drawn."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgsid_ray.artifacts import Interactions
from lgsid_ray.config.recommend import RankConfig
from lgsid_ray.errors import InputError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.distance import EARTH_RADIUS_KM
from lgsid_ray.recommend import log as logs
from lgsid_ray.recommend.log import SPLITS, TEST, TRAIN
from lgsid_ray.recommend.rankers import samples as sampling
from lgsid_ray.recommend.rankers.baselines import click_rate, scores
from lgsid_ray.recommend.rankers.batches import RankBatch, RankBatches
from lgsid_ray.recommend.rankers.experiment import build
from lgsid_ray.recommend.rankers.facts import Facts, Traits
from lgsid_ray.recommend.rankers.negatives import Negatives
from lgsid_ray.recommend.rankers.registry import RANKERS

ITEMS = 12
XYZ = np.random.default_rng(0).normal(size=(ITEMS, 3))
XYZ /= np.linalg.norm(XYZ, axis=1, keepdims=True)
NEGATIVES = Negatives(ITEMS, XYZ, ratio=4, near=0.5, neighbours=3)


def table(users: list, items: list, times: list | None, labels: list | None, splits: list | None) -> pa.Table:
    count = len(users)
    return Interactions(StageDir("nowhere")).conform(
        pa.table(
            {
                "user_id": [f"u{user}" for user in users],
                "item_index": items,
                "item_id": [f"i{item}" for item in items],
                "timestamp": pa.array(times or [None] * count, pa.int64()),
                "label": pa.array(labels or [None] * count, pa.float64()),
                "rank_split": pa.array(splits or [None] * count, pa.string()),
                "generate_split": pa.array([None] * count, pa.string()),
            }
        )
    )


def read(*columns: list | None) -> logs.Log:
    return logs.of(table(*columns))


def test_a_log_is_sorted_by_user_then_time_and_knows_its_kind() -> None:
    log = read([5, 9, 5], [1, 2, 3], [30, 20, 10], [1, 0, 1], ["test", "train", "train"])
    assert log.user.tolist() == [0, 0, 1]
    assert log.item.tolist() == [3, 1, 2]
    assert log.rank_split.tolist() == [TRAIN, TEST, TRAIN]
    assert (log.kind, log.timed) == ("impressions", True)
    assert read([1, 2], [1, 2], [1, 2], None, None).kind == "visits"
    assert read([1, 2], [1, 2], [1, 2], [1, 1], None).kind == "visits"
    assert read([1, 2], [1, 2], None, [3.5, 1], None).kind == "ratings"
    assert not read([1, 2], [1, 2], [None, 5], [3.5, 1], None).timed


def test_an_unknown_split_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="dev"):
        read([1], [1], [1], [1], ["dev"])


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, ITEMS - 1), st.integers(0, 20), st.booleans()), min_size=2),
    st.booleans(),
)
def test_a_history_is_what_came_before_and_nothing_else(events: list[tuple[int, int, int, bool]], clicks: bool) -> None:
    events.sort(key=lambda event: event[2])
    bounds = 12, 16
    split = [SPLITS[sum(time >= bound for bound in bounds)] for _, _, time, _ in events]
    users, items, times, labels = map(list, zip(*events, strict=True))
    log = read(users, items, times, [float(label) for label in labels] if clicks else None, split)
    ratio = 1000 if log.kind == "impressions" else 4  # so that no impression is thinned away
    samples = sampling.build(log, Negatives(ITEMS, XYZ, ratio, 0.5, 3), None, seed=1)
    source = np.arange(len(log)) if log.kind == "impressions" else np.repeat(np.arange(len(log)), 5)
    seen = samples.histories(np.arange(len(samples)), 50)
    for row, event in enumerate(source):
        mine = (log.user == log.user[event]) & (log.time < log.time[event])
        allowed = log.item[mine & (log.label > 0)]
        assert seen[row][seen[row] >= 0].tolist() == allowed[::-1].tolist()


def test_a_target_is_new_until_its_user_has_clicked_it_however_long_ago() -> None:
    rng = np.random.default_rng(5)
    users, items, times = rng.integers(0, 6, 400), rng.integers(0, ITEMS, 400), rng.integers(0, 300, 400)
    log = read(users.tolist(), items.tolist(), times.tolist(), (rng.random(400) < 0.4).astype(float).tolist(), None)
    samples = sampling.build(log, Negatives(ITEMS, XYZ, 1000, 0.5, 3), None, seed=0)
    rows = np.arange(0, len(samples), 3)
    seen = samples.histories(rows, 400)
    expected = [target not in set(before) for target, before in zip(samples.item[rows], seen, strict=True)]
    assert samples.new(rows).tolist() == expected
    assert 0 < np.mean(expected) < 1


def test_impressions_are_thinned_to_the_ratio() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(20_000) < 0.02).astype(float)
    log = read([0] * 20_000, [1] * 20_000, list(range(20_000)), labels.tolist(), ["train"] * 20_000)
    samples = sampling.build(log, NEGATIVES, None, seed=0)
    clicks = labels.sum()
    assert samples.label.sum() == clicks
    assert (len(samples) - clicks) / clicks == pytest.approx(4, rel=0.15)


def test_drawn_negatives_are_popular_or_near_and_never_the_positive() -> None:
    positive = np.random.default_rng(3).integers(0, ITEMS, 4000)
    last = np.full(4000, 7)
    popular = np.array([0] * 30 + [1] * 10)
    drawn = NEGATIVES.draw(positive, last, popular, seed=0)
    assert drawn.shape == (4000, 4)
    assert (drawn != positive[:, None]).all()
    assert set(drawn[:, :2].ravel().tolist()) == {0, 1}
    elsewhere = ~np.isin(positive, [0, 1])
    assert (drawn[elsewhere, 0] == 0).mean() == pytest.approx(0.75, abs=0.03)
    nearest = np.argsort(np.linalg.norm(XYZ - XYZ[7], axis=1))[:4]
    assert set(drawn[:, 2:].ravel().tolist()) == set(nearest.tolist())
    assert (drawn == NEGATIVES.draw(positive, last, popular, seed=0)).all()
    assert (drawn != NEGATIVES.draw(positive, last, popular, seed=1)).any()


def test_without_coordinates_all_negatives_are_popular() -> None:
    drawn = Negatives(ITEMS, None, ratio=4, near=0.5, neighbours=3).draw(
        np.full(500, 5), np.full(500, 7), np.array([0] * 30 + [1] * 10), seed=0
    )
    assert drawn.shape == (500, 4)
    assert set(drawn.ravel().tolist()) == {0, 1}
    log = read([0, 0, 0], [1, 2, 1], [1, 2, 3], [1, 0, 1], ["train", "train", "test"])
    samples = sampling.build(log, NEGATIVES, None, seed=0)
    assert scores(samples, samples.of(TEST), ITEMS, None, 5).keys() == {"popularity", "repeat"}


def test_one_item_leaves_no_negative() -> None:
    with pytest.raises(InputError, match="one item"):
        Negatives(1, XYZ[:1], 4, 0.5, 3).draw(np.zeros(2, dtype=int), np.zeros(2, dtype=int), np.zeros(2, dtype=int), 0)


def test_a_visit_becomes_one_positive_and_its_negatives() -> None:
    log = read([0, 0, 1], [1, 2, 3], [1, 2, 3], None, ["train", "train", "test"])
    samples = sampling.build(log, NEGATIVES, None, seed=0)
    assert samples.label.reshape(3, 5).tolist() == [[1, 0, 0, 0, 0]] * 3
    assert samples.item[::5].tolist() == [1, 2, 3]
    assert samples.histories(np.array([0, 5, 9, 10]), 2).tolist() == [[-1, -1], [1, -1], [1, -1], [-1, -1]]


def test_without_times_a_history_is_the_set_of_the_other_training_ratings() -> None:
    users, items = [0] * 6, [1, 2, 3, 4, 5, 1]
    log = read(users, items, None, [4, 1, 3, 2, 4, 3], ["train", "train", "train", "test", "valid", "train"])
    samples = sampling.build(log, NEGATIVES, 3.0, seed=0)
    assert samples.label.tolist() == [1, 0, 1, 0, 1, 1]
    seen = [sorted(set(row.tolist()) - {-1}) for row in samples.histories(np.arange(6), 10)]
    assert seen == [[2, 3], [1, 3], [1, 2], [1, 2, 3], [1, 2, 3], [2, 3]]


def test_the_rating_threshold_is_the_training_median_unless_all_would_pass() -> None:
    def threshold(labels: list[float], splits: list[str] | None = None) -> float | None:
        return sampling.rating_threshold(
            read([0] * len(labels), [0] * len(labels), None, labels, splits or ["train"] * len(labels))
        )

    assert threshold([1, 2, 3, 4]) == 2.5
    assert threshold([3, 3, 3, 4]) == 4
    assert threshold([1, 2, 3, 9, 9], ["train"] * 3 + ["test"] * 2) == 2
    assert threshold([1, 1, 0]) is None


def test_baselines_score_popularity_repeats_and_nearness() -> None:
    log = read([0, 0, 0, 0], [1, 2, 1, 3], [1, 2, 3, 4], [1, 0, 1, 0], ["train", "train", "test", "test"])
    samples = sampling.build(log, NEGATIVES, None, seed=0)
    found = scores(samples, samples.of(TEST), ITEMS, XYZ, 5)
    assert found["repeat"].tolist() == [1, 0]
    assert found["nearness"] == pytest.approx([0, -np.linalg.norm(XYZ[1] - XYZ[3])])
    rate = click_rate(samples, ITEMS)
    assert rate[1] == pytest.approx((1 + 10 * 0.5) / 11)
    assert rate[2] == pytest.approx((0 + 10 * 0.5) / 11)
    assert rate[3] == 0.5


def batches_of(log: logs.Log, *needs: str, xyz: np.ndarray | None = XYZ, length: int = 3) -> RankBatches:
    samples = sampling.build(log, NEGATIVES, 3.0 if log.kind == "ratings" else None, seed=0)
    facts = Facts(samples, xyz, Traits.none(ITEMS), length, 0)
    lengths = length, length + 1
    return RankBatches(samples, facts, [], xyz, *lengths, 0, frozenset(needs), samples.of(TRAIN), samples.of(TEST))


def test_a_batch_holds_the_fields_that_are_needed_and_no_other() -> None:
    log = read([0, 0, 0, 0], [1, 2, 1, 3], [10, 25, 75, 99], [1, 1, 0, 1], ["train", "train", "train", "test"])
    batch = batches_of(log, "target", "history", "long", "gap", "km").batch(np.arange(4))
    assert batch.label is None
    assert batch.target.tolist() == [1, 2, 1, 3]
    assert batch.history.tolist() == [[-1, -1, -1], [1, -1, -1], [2, 1, -1], [2, 1, -1]]
    assert torch.equal(batch.long[:, :3], batch.history)
    assert batch.gap.tolist() == [[0, 0, 0, 0], [15, 0, 0, 0], [50, 65, 0, 0], [74, 89, 0, 0]]
    for row in range(4):
        for place, item in enumerate(batch.long[row].tolist()):
            angle = np.arccos(np.clip(XYZ[item] @ XYZ[batch.target[row]], -1, 1)) if item >= 0 else 0.0
            assert batch.km[row, place].item() == pytest.approx(EARTH_RADIUS_KM * angle, rel=1e-5, abs=0.2)
    assert batches_of(log, "label").batch(np.arange(4)).label.tolist() == [1, 1, 0, 1]


def test_without_times_there_is_no_gap_and_without_coordinates_no_distance() -> None:
    log = read([0, 0, 0], [1, 2, 3], None, [4, 1, 5], ["train"] * 3)
    batch = batches_of(log, "history", "gap", "km", xyz=None).batch(np.arange(3))
    assert (batch.history >= 0).sum() == 6
    assert not batch.gap.any()
    assert not batch.km.any()


def test_a_longer_history_only_adds_padding() -> None:
    log = read([0, 0, 0, 1], [1, 2, 1, 3], [10, 25, 75, 99], None, ["train"] * 4)
    short, long = (batches_of(log, *RankBatch._fields, length=length).batch(np.arange(20)) for length in (3, 7))
    assert torch.equal(short.target, long.target)
    for name, empty in (("history", -1), ("long", -1), ("gap", 0), ("km", 0)):
        width = getattr(short, name).shape[1]
        assert torch.equal(getattr(short, name), getattr(long, name)[:, :width])
        assert (getattr(long, name)[:, width:] == empty).all()
    assert torch.equal(short.passed, long.passed[:, :3])


def test_what_stands_beside_a_history_is_drawn_from_all_training_clicks() -> None:
    log = read([0, 0, 0, 1], [1, 2, 1, 3], [10, 25, 75, 99], None, ["train", "train", "train", "test"])
    batches = batches_of(log, "passed", length=400)
    passed = batches.batch(np.arange(20)).passed
    shares = np.bincount(passed.numpy().ravel(), minlength=4) / passed.numel()
    assert shares[:4] == pytest.approx([0, 2 / 3, 1 / 3, 0], abs=0.02)
    assert torch.equal(batches.batch(np.array([7])).passed, passed[7:8])


def test_every_ranker_reads_what_it_declares_and_nothing_else() -> None:
    log = read([0, 0, 0, 1], [1, 2, 1, 3], [10, 25, 75, 99], None, ["train"] * 4)
    for config in RankConfig(models=list(RANKERS)).models:  # each kind by its name
        model = build(config, ITEMS, None)
        batch = batches_of(log, *model.needs).batch(np.arange(20))
        assert model(batch).shape == (20,)
        assert sum(model.losses(batch).values()).isfinite()
