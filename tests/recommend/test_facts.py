"""What rankers are told of a sample, against loops; that it holds neither future nor label; and boosted trees."""

from dataclasses import replace

import numpy as np
import pytest

from lgsid_ray.config.recommend import RankConfig
from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.recommend.log import TEST, TRAIN, VALID, Log
from lgsid_ray.recommend.rankers.alike import Alike
from lgsid_ray.recommend.rankers.experiment import Ranking
from lgsid_ray.recommend.rankers.facts import FACTS, KINDS, Facts, Traits
from lgsid_ray.recommend.rankers.follows import Follows
from lgsid_ray.recommend.rankers.trees import Trees
from tests.recommend.conftest import ITEMS, TASTES

LENGTH = 6
CONFIG = RankConfig(history=LENGTH, neighbours=10)


@pytest.fixture(scope="module")
def places() -> np.ndarray:
    """A kilometre and more apart, along a meridian and beside it."""
    rng = np.random.default_rng(3)
    lat, lon = np.radians(40 + rng.random(ITEMS) / 5), np.radians(rng.random(ITEMS) / 5)
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


@pytest.fixture(scope="module")
def traits() -> Traits:
    rng = np.random.default_rng(4)
    price = np.log1p(rng.random(ITEMS) * 50).astype(np.float32)
    price[::7] = np.nan
    return Traits(rng.integers(-1, 4, (ITEMS, len(KINDS))).astype(np.int32), price)


def raw(ranking: Ranking, rows: np.ndarray) -> dict[str, np.ndarray]:
    """By name, before they are standardised."""
    return dict(zip(FACTS, ranking.facts._raw(rows).T, strict=True))


def test_facts_are_those_of_a_loop(places: np.ndarray, clicks: Log, traits: Traits) -> None:
    ranking = Ranking.of(CONFIG, ITEMS, places, clicks, 0, traits)
    samples, rng = ranking.samples, np.random.default_rng(0)
    rows = np.sort(rng.choice(len(samples), 300, replace=False))
    found, train = raw(ranking, rows), samples.of(TRAIN)
    fold = ranking.facts._fold
    for place, row in enumerate(rows.tolist()):
        target, window = samples.item[row], samples.timeline[samples.start[row] : samples.end[row]][::-1][:LENGTH]
        moments = samples.moment[samples.start[row] : samples.end[row]][::-1][:LENGTH]
        mine = {name: column[place] for name, column in found.items()}
        here = [i for i, item in enumerate(window) if item == target]
        counted = [r for r in train if samples.split[row] != TRAIN or fold[r] != fold[row]]
        labels = [samples.label[r] for r in counted if samples.item[r] == target]
        expected = {
            "visits": np.log1p(len(here)),
            "age": np.log1p(here[0] if here else LENGTH),
            "known": bool(here),
            "events": np.log1p(len(window)),
            "since": np.log1p((samples.time[row] - moments[here[0]]) / 3600) if here else 0,
            "pause": np.log1p((samples.time[row] - moments[0]) / 3600) if len(window) else 0,
            "clicks": np.log1p(sum(labels)),
            "odds": np.log((sum(labels) + 2) / (len(labels) - sum(labels) + 8)),
        }
        hour = samples.time[row] / 3600 + np.degrees(np.arctan2(places[target, 1], places[target, 0])) / 15
        expected |= {"sine": np.sin(hour * np.pi / 12), "cosine": np.cos(hour * np.pi / 12)}
        for number, kind in enumerate(KINDS):
            own = traits.kinds[target, number]
            expected[kind] = (
                np.mean([own >= 0 and traits.kinds[i, number] == own for i in window]) if len(window) else 0
            )
        own = traits.price[target]
        known = [traits.price[i] for i in window if not np.isnan(traits.price[i])]
        expected |= {"price": np.nan_to_num(own)}
        expected |= {"dearer": own - np.mean(known) if known and not np.isnan(own) else 0}
        if len(window):
            km = [chord_to_km(np.linalg.norm(places[i] - places[target])) for i in window]
            middle = places[window].sum(axis=0)
            middle /= np.linalg.norm(middle)
            expected |= {"km": np.log1p(km[0]), "close": np.log(0.05 + km[0]), "nearest": np.log1p(min(km))}
            expected |= {"spread": np.mean(np.log1p(km))}
            expected |= {"middle": np.log1p(chord_to_km(np.linalg.norm(middle - places[target])))}
        else:
            expected |= dict.fromkeys(("km", "close", "nearest", "spread", "middle"), 0)
        assert mine.keys() == expected.keys() | {"follows", *(f"{kind} follows" for kind in KINDS)}
        for name, value in expected.items():
            assert mine[name] == pytest.approx(float(value), abs=1e-5), name


def test_nothing_that_comes_later_and_no_label_of_its_own_changes_a_fact(places: np.ndarray, clicks: Log) -> None:
    ranking = Ranking.of(CONFIG, ITEMS, places, clicks, 0)
    before, rng = ranking.facts._raw(np.arange(len(ranking.samples))), np.random.default_rng(0)
    for split in (TEST, VALID):  # what is at stake there, others' and their own
        later = clicks.rank_split >= split
        changed = replace(
            clicks,
            item=np.where(later, rng.permutation(clicks.item), clicks.item),
            label=np.where(later, 1 - clicks.label, clicks.label),
        )
        other = Ranking.of(CONFIG.model_copy(update={"negatives": 1000}), ITEMS, places, changed, 0)
        whole = Ranking.of(CONFIG.model_copy(update={"negatives": 1000}), ITEMS, places, clicks, 0)
        rows = np.flatnonzero(whole.samples.split < split)
        assert len(other.samples) == len(whole.samples) == len(clicks)  # nothing thinned, so rows are the same
        np.testing.assert_array_equal(whole.facts._raw(rows), other.facts._raw(rows))
    # A training user's labels are in no count of theirs: turned round, they move other users' facts alone.
    user = 5
    turned = replace(ranking.samples, label=ranking.samples.label.copy())
    mine = np.flatnonzero((turned.user == user) & (turned.split == TRAIN))
    turned.label[mine] = 1 - turned.label[mine]
    after = Facts(turned, places, Traits.none(ITEMS), LENGTH, 0)._raw(np.arange(len(turned)))
    np.testing.assert_array_equal(after[mine], before[mine])
    assert (after != before).any()


def test_facts_are_standardised_in_training_and_what_never_varies_is_0(places: np.ndarray, clicks: Log) -> None:
    ranking = Ranking.of(CONFIG, ITEMS, places, clicks, 0)
    found = ranking.facts.of(ranking.samples.of(TRAIN))
    varies = found.std(axis=0) > 0
    assert dict(zip(FACTS, varies.tolist(), strict=True)) == {
        name: name not in (*KINDS, *(f"{kind} follows" for kind in KINDS), "price", "dearer") for name in FACTS
    }
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(found[:, varies].std(axis=0), 1, atol=0.25)  # what is rare is cut at five deviations
    assert np.abs(found).max() <= 5
    nowhere = Ranking.of(CONFIG, ITEMS, None, clicks, 0).facts.of(np.arange(50))
    assert not nowhere[:, [FACTS.index(name) for name in ("km", "close", "nearest", "spread", "middle")]].any()
    timeless = Ranking.of(CONFIG, ITEMS, places, replace(clicks, timed=False), 0).facts.of(np.arange(50))
    assert not timeless[:, [FACTS.index(name) for name in ("pause", "since", "sine", "cosine")]].any()


def test_what_follows_is_counted_as_by_a_loop_without_the_sample_s_own_fold(places: np.ndarray, clicks: Log) -> None:
    ranking = Ranking.of(CONFIG, ITEMS, places, clicks, 0)
    samples, fold, kind = ranking.samples, ranking.facts._fold, np.arange(ITEMS) % 5 - 1
    last = samples.histories(np.arange(len(samples)), 1)[:, 0]
    first, second = np.where(last >= 0, kind[last], -1), kind[samples.item]
    rows = np.arange(0, len(samples), 13)
    found = Follows(samples, fold, kind).of(samples, rows, ranking.facts._told_by(rows))
    for value, row in zip(found, rows.tolist(), strict=True):
        counted = samples.split == TRAIN
        if samples.split[row] == TRAIN:
            counted &= fold != fold[row]
        usual = counted & (second == second[row]) & (first >= 0)
        both = usual & (first == first[row])
        rate = (samples.label[usual].sum() + 2) / (usual.sum() + 10)
        shrunk = (samples.label[both].sum() + 20 * rate) / (both.sum() + 20)
        expected = np.log(shrunk / (1 - shrunk)) - np.log(rate / (1 - rate))
        assert value == pytest.approx(expected if min(first[row], second[row]) >= 0 else 0, abs=1e-5)
    assert (found != 0).any()


def test_nothing_follows_where_there_are_no_kinds(places: np.ndarray, clicks: Log) -> None:
    ranking = Ranking.of(CONFIG, ITEMS, places, clicks, 0)
    none = Follows(ranking.samples, ranking.facts._fold, np.full(ITEMS, -1))
    assert not none.of(ranking.samples, np.arange(50), np.zeros(50, dtype=np.int64)).any()


def test_matches_are_those_of_a_loop(places: np.ndarray, clicks: Log) -> None:
    ranking = Ranking.of(CONFIG, ITEMS, places, clicks, 0)
    tokens = np.column_stack([np.arange(ITEMS) % TASTES, np.arange(ITEMS) // 7])
    rows = np.arange(0, len(ranking.samples), 11)
    alike = Alike(ranking.samples, tokens, LENGTH, 0)
    found, told_by = alike._raw(rows), alike._told_by(rows)
    assert found.shape[1] == alike.width == 8
    for length in (1, 2):
        code = np.unique(tokens[:, :length], axis=0, return_inverse=True)[1]
        follows = Follows(ranking.samples, alike._fold, code).of(ranking.samples, rows, told_by)
        np.testing.assert_allclose(found[:, 4 * length - 1], follows)
    for mine, row, history in zip(found, rows, ranking.samples.histories(rows, LENGTH), strict=True):
        window, target = history[history >= 0], ranking.samples.item[row]
        for length in (1, 2):
            same = [(tokens[item, :length] == tokens[target, :length]).all() for item in window]
            expected = [sum(same) / max(len(window), 1), np.log1p(sum(same)), bool(same and same[0])]
            np.testing.assert_allclose(mine[4 * length - 4 : 4 * length - 1], expected)
    assert np.abs(alike.of(rows)).max() <= 5


def test_trees_learn_a_taste_from_matches_that_facts_do_not_tell(places: np.ndarray, clicks: Log) -> None:
    tokens = np.column_stack([np.arange(ITEMS) % TASTES, np.arange(ITEMS) // TASTES])
    found = Ranking.of(CONFIG, ITEMS, places, clicks, 0).baselines(tokens)
    assert found["trees with SIDs"]["test"]["auc"] > 0.99
    assert found["trees"]["test"]["auc"] < 0.97  # the same items one after another tell something
    table, label = np.random.default_rng(0).standard_normal((500, 3)), np.arange(500) % 2 == 0
    one, two = (Trees(table, label.astype(np.float32), 0).probabilities(table) for _ in range(2))
    np.testing.assert_array_equal(one, two)
