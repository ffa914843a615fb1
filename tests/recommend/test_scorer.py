"""A trained ranker at work: the scores of the judged samples, and of pairs that nobody has seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Items
from lgsid_ray.config.recommend import EtaConfig, RankCell, RankConfig
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.stage import Cell
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend import log as logs
from lgsid_ray.recommend.checkpoint import write_weights
from lgsid_ray.recommend.log import TEST, VALID, Log
from lgsid_ray.recommend.rankers import samples as sampling
from lgsid_ray.recommend.rankers.experiment import Ranking
from lgsid_ray.recommend.rankers.scorer import Scorer
from lgsid_ray.recommend.rankers.scoring import probabilities
from tests.recommend.conftest import ITEMS as MANY
from tests.recommend.conftest import panel_of, write_sids
from tests.recommend.test_recommend_stages import ITEMS, inputs

CONFIG = RankConfig(history=6, long=9)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A ranker as it is before its first step, whose statistics are settled."""
    folder = tmp_path_factory.mktemp("scorer")
    made = Cell("rank/eta/x/0", RankCell(model=EtaConfig(), seed=0), inputs(folder), StageDir(f"{folder}/cell"))
    ranking = Ranking.read(CONFIG, made.inputs["catalogue"], 0)
    model = panel_of(ranking, [made]).members[made.name]
    batches = ranking.batches([made])
    model.losses(batches.batch(batches.train))  # type: ignore[operator]
    write_weights(made.out.make(), model.state_dict(), ranking.label(made))
    return made


def ids(cell: Cell) -> tuple[pa.Array, pa.Array]:
    catalogue = cell.inputs["catalogue"]
    items = Items(catalogue).read(["item_index", "item_id"]).sort_by("item_index").column("item_id")
    return logs.users(catalogue), items.combine_chunks()


def test_the_scores_of_judged_samples_are_those_that_were_judged(cell: Cell) -> None:
    scorer = Scorer.load(cell, CONFIG, 0)
    ranking, (users, items) = scorer.ranking, ids(cell)
    samples = ranking.samples
    rows = np.concatenate([samples.of(VALID), samples.of(TEST)])
    expected = probabilities(scorer.model, scorer.batches, rows)
    asked = users.take(pa.array(samples.user[rows])), items.take(pa.array(samples.item[rows]))
    found, known = scorer.scores(*asked, samples.time[rows])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert known.all()
    turned, _ = scorer.scores(
        *(one.take(pa.array(np.arange(len(rows))[::-1])) for one in asked), samples.time[rows][::-1]
    )
    np.testing.assert_allclose(turned[::-1], found, atol=1e-6)


def test_without_times_everything_is_seen_and_strangers_have_no_history(cell: Cell) -> None:
    scorer, (users, items) = Scorer.load(cell, CONFIG, 0), ids(cell)
    latest = int(scorer.ranking.log.time.max())
    two = pa.array([users[3].as_py(), "stranger", None]), items.take(pa.array([5, 5, 5]))
    found, known = scorer.scores(*two, None)
    assert known.tolist() == [True, False, False]
    assert found[1] == found[2] != found[0]
    before_it, _ = scorer.scores(*two, np.full(3, latest))
    assert before_it[0] != found[0]  # with a time, an event of the same second is not seen
    before, _ = scorer.scores(*two, np.zeros(3, dtype=np.int64))
    assert before[0] == pytest.approx(before[1], abs=1e-6)  # nobody has a history before the log begins


def test_items_that_the_catalogue_lacks_have_no_score(cell: Cell) -> None:
    scorer, (users, items) = Scorer.load(cell, CONFIG, 0), ids(cell)
    found, _ = scorer.scores(users.take(pa.array([0, 0, 0])), pa.array(["nowhere", items[2].as_py(), None]), None)
    assert np.isnan(found).tolist() == [True, False, True]
    alone, _ = scorer.scores(users.take(pa.array([0])), items.take(pa.array([2])), None)
    assert alone[0] == pytest.approx(found[1], abs=1e-6)


def test_histories_of_pairs_hold_test_events_and_end_before_their_time(clicks: Log) -> None:
    rng = np.random.default_rng(3)
    user, item = rng.integers(-1, 80, 300).astype(np.int32), rng.integers(0, MANY, 300)
    time = rng.integers(-100, 60 * 70, 300)
    found = sampling.asked(clicks, None, user, item, time).histories(np.arange(300), 8)
    for row in range(300):
        mine = (clicks.user == user[row]) & (clicks.time < time[row]) & (clicks.label > 0)
        expected = clicks.item[mine][::-1][:8].tolist()
        assert found[row][: len(expected)].tolist() == expected
        assert (found[row][len(expected) :] == -1).all()


def test_without_times_in_the_log_a_history_is_all_that_the_user_rated_but_the_target(clicks: Log) -> None:
    untimed = replace(clicks, timed=False, time=np.zeros_like(clicks.time))
    asked = sampling.asked(untimed, None, np.array([4, -1], dtype=np.int32), np.array([7, 7]), None)
    first, second = asked.histories(np.arange(2), 100)
    assert sorted(first[first >= 0]) == sorted(clicks.item[(clicks.user == 4) & (clicks.item != 7)])
    assert (second == -1).all()


def test_weights_of_other_sids_are_refused(cell: Cell, tmp_path: Path) -> None:
    other = inputs(tmp_path)
    folder = StageDir(f"{tmp_path}/sids").make()
    index = np.arange(ITEMS)
    write_sids(folder, np.column_stack([index % 3, index // 3]), np.zeros(ITEMS, dtype=np.int64))
    with pytest.raises(StorageError, match="trained on other SIDs"):
        Scorer.load(replace(cell, inputs={**other, "tokenise": folder}), CONFIG, 0)
