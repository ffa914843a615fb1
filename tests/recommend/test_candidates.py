"""What a history suggests, against loops over the events."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.recommend.folds import FOLDS
from lgsid_ray.recommend.generators import candidates
from lgsid_ray.recommend.generators.candidates import ABOUT, CONTEXT, SOURCES, Candidates, Links
from lgsid_ray.recommend.generators.sequences import Sequences
from lgsid_ray.recommend.log import TEST, TRAIN, VALID
from tests.recommend.test_generation import XYZ, sequences

ITEMS, LENGTH = 7, 4


def walks(users: int = 30) -> Sequences:
    rng = np.random.default_rng(0)
    return sequences(*(rng.integers(0, ITEMS, rng.integers(3, 12)).tolist() for _ in range(users)))


def fold_of(made: Candidates, position: int) -> int:
    return int(made._fold[position])


def suggested(made: Candidates, row: int, source: str, discovery: bool = False) -> dict[int, dict[str, float]]:
    """What a source suggests for one target: item → its figures by name."""
    found = made.suggest(np.array([row]), discovery)
    columns = np.flatnonzero((found.source == SOURCES.index(source)) & (found.item[0] >= 0))
    return {int(found.item[0, c]): dict(zip(ABOUT, found.about[0, c].tolist(), strict=True)) for c in columns}


def training_pairs(log: Sequences, window: int, skip: set[int]) -> Iterator[tuple[int, int]]:
    """(item, later item) up to `window` events apart, of users that are not left out."""
    for later in range(len(log.item)):
        for earlier in range(max(int(log.start[later]), later - window), later):
            if log.split[later] == TRAIN and int(log.user[later]) not in skip:
                yield int(log.item[earlier]), int(log.item[later])


def test_counts_leave_out_the_fold_of_a_training_target_and_hold_all_for_the_others() -> None:
    log = walks()
    made = Candidates(log, ITEMS, XYZ, LENGTH, seed=0)
    for row in [*log.of(TRAIN)[:40].tolist(), *log.of(VALID)[:10].tolist(), *log.of(TEST)[:10].tolist()]:
        mine = {int(user) for user in np.unique(log.user[made._fold == fold_of(made, row)])}
        assert int(log.user[row]) in mine
        skip = mine if log.split[row] == TRAIN else set()
        last = int(log.item[row - 1])
        follows = Counter(after for before, after in training_pairs(log, 1, skip) if before == last)
        found = suggested(made, row, "successor")
        assert {item: round(np.expm1(about["standing"])) for item, about in found.items()} == follows
        assert {item: pytest.approx(np.exp(about["count"])) for item, about in found.items()} == {
            item: times / follows.total() for item, times in follows.items()
        }
        visits = Counter(
            int(item)
            for item, user, split in zip(log.item, log.user, log.split, strict=True)
            if split == TRAIN and int(user) not in skip
        )
        for item, about in suggested(made, row, "near").items():
            assert round(np.expm1(about["popular"])) == visits[item]


def test_companions_stood_near_in_either_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "LATEST", 1)
    log = walks()
    made = Candidates(log, ITEMS, XYZ, LENGTH, seed=0)
    pairs = Counter(training_pairs(log, candidates.WINDOW, set()))
    for row in log.of(TEST)[:20].tolist():
        last = int(log.item[row - 1])
        either = {item: pairs[last, item] + pairs[item, last] for item in range(ITEMS)}
        found = suggested(made, row, "companion")
        assert {item: round(np.expm1(about["standing"])) for item, about in found.items()} == {
            item: times for item, times in either.items() if times
        }


def test_rare_pairs_stand_out_by_nothing_that_the_target_itself_did() -> None:
    # Twenty items followed item 0 once each. Where a list holds four, whether a pair is among them must not hang on the
    # very event that is to be foretold.
    ones = np.arange(1, 21)
    source, fold = np.zeros(20, dtype=np.int64), np.arange(20) % FOLDS
    links = Links.of([(source, ones, fold)], items=21, width=4)
    for held in range(FOLDS):
        others = ones[fold != held]
        assert links.target[held, 0].tolist() == others[:4].tolist()
        assert links.total[held, 0] == 15
    assert links.target[FOLDS, 0].tolist() == [1, 2, 3, 4]
    assert links.total[FOLDS, 0] == 20


def test_a_history_tells_its_own_places_once_each() -> None:
    log = sequences([3, 1, 3, 2, 3, 1, 3, 5, 6])
    made = Candidates(log, ITEMS, XYZ, 10, seed=0)
    row = 7  # the validation target: history 3 1 3 2 3 1 3
    found = suggested(made, row, "history")
    assert list(found) == [3, 1, 2]  # latest first
    assert [round(np.expm1(about["count"])) for about in found.values()] == [4, 2, 1]
    assert [round(np.expm1(about["standing"])) for about in found.values()] == [0, 1, 3]
    assert [round(np.expm1(about["gap"])) for about in found.values()] == [0, 1, 3]  # an event an hour
    assert [round(np.expm1(about["followed"])) for about in found.values()] == [0, 2, 1]
    assert all(about["count"] == about["visited"] for about in found.values())
    assert found[1]["km"] == pytest.approx(np.log1p(chord_to_km(np.linalg.norm(XYZ[1] - XYZ[3]))), rel=1e-5)
    context = dict(zip(CONTEXT, made.suggest(np.array([row]), False).context[0].tolist(), strict=True))
    assert context["events"] == pytest.approx(np.log1p(7))
    assert context["distinct"] == pytest.approx(3 / 7)
    assert context["pause"] == pytest.approx(np.log(2))
    assert context["returns"] == pytest.approx(np.log1p(4))


def test_popular_are_the_most_visited_without_the_fold_of_a_training_target() -> None:
    log = walks()
    made = Candidates(log, ITEMS, XYZ, LENGTH, seed=0)
    for row in [int(log.of(TRAIN)[0]), int(log.of(TEST)[0])]:
        found = suggested(made, row, "popular")
        assert len(found) == ITEMS
        visits = [about["popular"] for about in found.values()]
        assert visits == sorted(visits, reverse=True)


def test_near_are_the_places_around_the_last_one_and_home_those_around_the_middle() -> None:
    log = sequences([0, 1, 2, 1, 5, 6, 4])
    made = Candidates(log, ITEMS, XYZ, 10, seed=0)
    assert list(suggested(made, 5, "near")) == [5, 6, 4, 3, 2, 1, 0]
    assert next(iter(suggested(made, 5, "home"))) == 2


def test_discovery_suggests_nothing_that_the_whole_history_holds() -> None:
    log = walks()
    made = Candidates(log, ITEMS, XYZ, 2, seed=0)  # looks at two events, but the user knows more
    rows = log.of(TEST)
    known, new = (made.suggest(rows, discovery) for discovery in (False, True))
    for number, row in enumerate(rows.tolist()):
        visited = set(log.item[log.start[row] : row].tolist())
        assert not visited & set(new.item[number].tolist())
        kept = ~np.isin(known.item[number], list(visited))
        assert (new.item[number][kept] == known.item[number][kept]).all()


def test_what_is_suggested_depends_on_nothing_else_in_the_batch() -> None:
    log = walks()
    made = Candidates(log, ITEMS, XYZ, LENGTH, seed=0)
    rows = log.of(TEST)[:8]
    together = made.suggest(rows, False)
    for number, row in enumerate(rows):
        alone = made.suggest(np.array([row]), False)
        real, mine = together.item[number] >= 0, alone.item[0] >= 0
        assert together.item[number][real].tolist() == alone.item[0][mine].tolist()
        np.testing.assert_array_equal(together.about[number][real], alone.about[0][mine])
        np.testing.assert_array_equal(together.context[number], alone.context[0])


def test_without_coordinates_nothing_is_near_and_nothing_far() -> None:
    log = walks()
    found = Candidates(log, ITEMS, None, LENGTH, seed=0).suggest(log.of(TEST), False)
    assert set(found.source.tolist()) == {
        SOURCES.index(name) for name in ("history", "successor", "companion", "popular")
    }
    assert not found.about[..., [ABOUT.index(name) for name in ("km", "middle")]].any()
