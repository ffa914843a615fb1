"""Rules that count, against loops over the events, and their mixture."""

from collections import Counter

import numpy as np
import pytest

from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.recommend.generators import baselines
from lgsid_ray.recommend.generators.baselines import Rules
from lgsid_ray.recommend.generators.sequences import Sequences
from lgsid_ray.recommend.log import TEST, TRAIN, VALID

XYZ = np.array([[np.cos(a), np.sin(a), 0.0] for a in (0.0, 0.1, 0.2, 1.0, 1.1, 2.0, 2.1)])


def sequences(*users: list[int]) -> Sequences:
    user = np.concatenate([[u] * len(items) for u, items in enumerate(users)]).astype(np.int32)
    split = np.concatenate([[TRAIN] * (len(items) - 2) + [VALID, TEST] for items in users]).astype(np.int8)
    item = np.concatenate(users)
    return Sequences(user, item, np.arange(len(item)) * 3600, split, np.searchsorted(user, user))


def walks(seed: int = 0, users: int = 12) -> tuple[list[list[int]], Sequences]:
    rng = np.random.default_rng(seed)
    logs = [rng.integers(0, 7, rng.integers(3, 15)).tolist() for _ in range(users)]
    return logs, sequences(*logs)


def listed(rules: Rules, targets: np.ndarray, length: int, discovery: bool = False) -> dict[str, np.ndarray]:
    return rules.lists(targets, rules.chances(targets, discovery), length, discovery)


def test_lists_on_a_log_one_can_follow() -> None:
    found = sequences([0, 1, 0, 1, 0, 2], [0, 1, 3, 4, 5], [3, 4, 3, 3])
    # Training events: 0 1 0 1 | 0 1 3 | 3 4, so popularity 0, 1 (3 each), 3 (2), 4 (1), then by number.
    targets = np.array([5, 10])
    lists = listed(Rules(found, 7, XYZ, targets), targets, 3)
    assert lists["popularity"].tolist() == [[0, 1, 3]] * 2
    assert lists["own_history"].tolist() == [[0, 1, 3], [0, 1, 3]]  # of the second each once: by popularity
    assert lists["own_recent"].tolist() == [[0, 1, 3], [4, 3, 1]]
    assert lists["markov"].tolist() == [[1, 0, 3], [0, 1, 3]]  # nothing followed 4
    # Item 4 (one visit) is at the last place; 3 lies 637 km, 1 and 0 some 6 000 km away.
    assert lists["near_and_popular"].tolist() == [[0, 1, 3], [4, 3, 1]]
    new = listed(Rules(found, 7, XYZ, targets), targets, 3, discovery=True)
    assert new["popularity"].tolist() == [[3, 4, 2], [2, 5, 6]]
    assert new["near_and_popular"].tolist() == [[3, 4, 2], [5, 2, 6]]
    assert new.keys() == lists.keys() - {"own_history", "own_recent"}


def test_every_chance_against_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "NEAR", 4)
    monkeypatch.setattr(baselines, "DEPTH", 3)
    monkeypatch.setattr(baselines, "WINDOW", 2)
    logs, found = walks()
    training = [log[:-2] for log in logs]
    popular = Counter(item for log in training for item in log)
    follows, together = Counter(), Counter()
    for log in training:
        for later in range(len(log)):
            for earlier in range(max(0, later - 2), later):
                together[log[earlier], log[later]] += 1
                together[log[later], log[earlier]] += 1
                if earlier == later - 1:
                    follows[log[earlier], log[later]] += 1
    km = chord_to_km(np.linalg.norm(XYZ[:, None] - XYZ[None], axis=2))
    near = Counter()
    for place in range(7):
        for other in np.argsort(km[place], kind="stable")[:4].tolist():
            near[place, other] = (popular[other] + 0.1) / (1 + km[place, other])

    def shares(counts: Counter) -> np.ndarray:
        table = np.array([[float(counts[a, b]) for b in range(7)] for a in range(7)])
        return table / np.maximum(table.sum(axis=1, keepdims=True), 1e-300)

    def damped(counts: Counter, place: int) -> np.ndarray:
        row = np.array([float(counts[place, other]) for other in range(7)])
        return row / max(row.sum(), 1e-300) ** 0.5

    ends = np.cumsum([len(log) for log in logs]) - 1
    chances = Rules(found, 7, XYZ, ends).chances(ends, discovery=False)
    assert chances.keys() == {
        "own_history", "own_recent", "markov", "transitions", "co_occurrence", "companions", "near_and_popular",
        "near_history",
    }  # fmt: skip
    discovery = Rules(found, 7, XYZ, ends).chances(ends, discovery=True)
    for number, log in enumerate(logs):
        before = log[:-1][::-1]
        vote = {fade: np.zeros(7) for fade in (1.0, 0.7, 0.95)}
        followed, beside, companions = np.zeros(7), np.zeros(7), np.zeros(7)
        for age, item in enumerate(before):
            for fade in (1.0, 0.7):
                vote[fade][item] += fade**age
            if age < 3:
                vote[0.95][item] += 0.95**age
                followed += damped(follows, item) / (1 + age)
                beside += damped(together, item) / (1 + age)
                companions += 0.95**age * shares(together)[item]
        expected = {
            "own_history": vote[1.0],
            "own_recent": vote[0.7],
            "markov": shares(follows)[before[0]],
            "transitions": followed,
            "co_occurrence": beside,
            "companions": companions,
            "near_and_popular": shares(near)[before[0]],
            "near_history": vote[0.95] @ shares(near),
        }
        for name, row in expected.items():
            np.testing.assert_allclose(
                chances[name][number].toarray()[0], row / max(row.sum(), 1e-300), atol=1e-12, err_msg=name
            )
            if name in discovery:
                rest = np.where(np.isin(np.arange(7), before), 0, row)
                rest = rest / max(rest.sum(), 1e-300)
                np.testing.assert_allclose(discovery[name][number].toarray()[0], rest, atol=1e-12, err_msg=name)


def test_only_training_events_and_the_history_are_counted() -> None:
    """Other targets of validation and test change what a target is told only where they are its own history."""
    logs, found = walks(1)
    ends = np.cumsum([len(log) for log in logs]) - 1
    others = sequences(*[[*log[:-1], (log[-1] + 1) % 7] for log in logs])
    for discovery in (False, True):
        one, other = (listed(Rules(log, 7, XYZ, ends), ends, 7, discovery) for log in (found, others))
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_lists_hold_every_item_once_and_no_visited_one() -> None:
    logs, found = walks(2)
    ends = np.cumsum([len(log) for log in logs]) - 1
    rules = Rules(found, 7, XYZ, ends)
    for discovery in (False, True):
        weights = rules.weights(ends - 1, rules.chances(ends - 1, discovery))
        assert weights is not None
        mixed, chance = rules.mixture(ends, rules.chances(ends, discovery), weights, 9, discovery)
        assert (np.diff(chance, axis=1) <= 0).all()
        assert ((chance > 0) == (mixed >= 0)).all()
        for name, lists in {"mixture": mixed, **listed(rules, ends, 9, discovery)}.items():
            for log, row in zip(logs, lists.tolist(), strict=True):
                left = set(range(7)) - (set(log[:-1]) if discovery else set())
                assert sorted(row) == [-1] * (9 - len(left)) + sorted(left), name


def test_the_weights_are_the_likeliest() -> None:
    logs, found = walks(3, users=60)
    targets = np.cumsum([len(log) for log in logs]) - 2
    rules = Rules(found, 7, XYZ, targets)
    weights = rules.weights(targets, rules.chances(targets, discovery=False))
    assert weights is not None
    assert sum(weights.values()) == pytest.approx(1)
    item, row = found.item[targets], np.arange(len(targets))
    popular = (rules.popular + 0.1) / (rules.popular.sum() + 0.7)
    chances = {name: np.asarray(chance[row, item]).ravel() for name, chance in rules.chances(targets, False).items()}
    given = np.column_stack([*chances.values(), popular[item], np.full(len(item), 1 / 7)])
    assert [*chances, "popularity", "uniform"] == list(weights)
    mine = np.array(list(weights.values()))
    best = np.log(given @ mine).mean()
    rng = np.random.default_rng(0)
    for other in rng.dirichlet(np.ones(len(mine)), 200):
        for step in (1e-3, 1e-1, 1.0):
            assert np.log(given @ (mine + step * (other - mine))).mean() <= best + 1e-6
    assert rules.weights(targets[:0], rules.chances(targets[:0], discovery=False)) is None


def test_where_nobody_finds_anything_new_there_is_nothing_to_list() -> None:
    found = sequences([0, 1, 0, 1, 0], [2, 3, 2, 3])
    targets = np.array([4, 8])
    new = targets[found.is_new(targets)]
    rules = Rules(found, 7, XYZ, targets)
    assert all(lists.shape == (0, 5) for lists in listed(rules, new, 5, discovery=True).values())


def test_a_mixture_of_one_rule_is_that_rule() -> None:
    logs, found = walks(4)
    ends = np.cumsum([len(log) for log in logs]) - 1
    rules = Rules(found, 7, XYZ, ends)
    chances = rules.chances(ends, False)
    for chosen in ("own_history", "co_occurrence", "popularity"):
        weights = {name: float(name == chosen) for name in [*chances, "popularity", "uniform"]}
        mixed, _ = rules.mixture(ends, chances, weights, 7, discovery=False)
        assert np.array_equal(mixed, listed(rules, ends, 7)[chosen])


def test_a_mixture_within_some_items_is_the_rest_of_the_whole_one() -> None:
    logs, found = walks(6)
    ends = np.cumsum([len(log) for log in logs]) - 1
    rules = Rules(found, 7, XYZ, ends)
    inside = np.array([True, False, True, True, False, False, True])
    for discovery in (False, True):
        chances = rules.chances(ends, discovery)
        weights = rules.weights(ends, chances)
        assert weights is not None
        whole = rules.mixture(ends, chances, weights, 7, discovery)
        some = rules.mixture(ends, chances, weights, 7, discovery, inside)
        for items, chance, kept, theirs in zip(*whole, *some, strict=True):
            mine = (items >= 0) & inside[items]
            assert kept[kept >= 0].tolist() == items[mine].tolist()
            np.testing.assert_array_equal(theirs[kept >= 0], chance[mine])


def test_the_chances_of_a_mixture_sum_to_one() -> None:
    """Of all items, where every rule has something to say; a rule that is silent gives its weight to nobody."""
    logs, found = walks(7, users=40)
    ends = np.cumsum([len(log) for log in logs]) - 1
    rules = Rules(found, 7, XYZ, ends)
    chances = rules.chances(ends, discovery=False)
    weights = rules.weights(ends, chances)
    assert weights is not None
    _, chance = rules.mixture(ends, chances, weights, 7, discovery=False)
    silent = sum(weights[name] * (np.asarray(each.sum(axis=1)).ravel() == 0) for name, each in chances.items())
    np.testing.assert_allclose(chance.sum(axis=1), 1 - silent, atol=1e-6)


def test_without_coordinates_nothing_is_near() -> None:
    _, found = walks(5)
    ends = np.array([len(found.item) - 1])
    near, nowhere = (listed(Rules(found, 7, xyz, ends), ends, 3) for xyz in (XYZ, None))
    assert near.keys() - nowhere.keys() == {"near_and_popular", "near_history"}
    assert all(np.array_equal(near[name], lists) for name, lists in nowhere.items())
