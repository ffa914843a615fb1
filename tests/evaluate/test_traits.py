"""Traits of items and what they tell, against plain loops and known answers."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Items
from lgsid_ray.evaluate.traits import background, log_odds, spelled, telling, traits
from lgsid_ray.execution.storage import StageDir

ROWS: list[dict[str, Any]] = [
    {"name": "Café Löwe, Café!", "brand": "Löwe", "province": "Ohio", "city": "Troy", "district": "North"},
    {"name": "löwe-bar", "category_1": "Bar", "province": "Texas", "city": "Troy"},
    {"name": "寿司 7", "brand": "", "category_1": "Bar", "city": "Lost"},
    {"name": "..."},
]


def table(rows: list[dict[str, Any]]) -> pa.Table:
    columns = {f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in Items.schema}
    return pa.table(columns).set_column(0, "item_index", pa.array(range(len(rows))))


def named(rows: list[dict[str, Any]]) -> list[set[tuple[str, str]]]:
    found = traits(table(rows))
    sets: list[set[tuple[str, str]]] = [set() for _ in rows]
    for row, trait in zip(found.row.tolist(), found.trait.tolist(), strict=True):
        assert spelled(found.names[trait].as_py()) not in sets[row], "once an item"
        sets[row].add(spelled(found.names[trait].as_py()))
    return sets


def test_words_in_lower_case_and_what_fields_say() -> None:
    first, second, third, fourth = named(ROWS)
    place = {("province", "Ohio"), ("city", "Troy"), ("district", "North")}
    assert first == {("name", "café"), ("name", "löwe"), ("brand", "Löwe"), *place}
    assert second == {
        ("name", "löwe"),
        ("name", "bar"),
        ("category_1", "Bar"),
        ("province", "Texas"),
        ("city", "Troy"),
    }
    assert third == {("name", "寿司"), ("name", "7"), ("category_1", "Bar")}  # a city of no known province is unknown
    assert fourth == set()


def test_cities_of_one_name_are_two_traits() -> None:
    found = traits(table(ROWS))
    assert sum(spelled(name) == ("city", "Troy") for name in found.names.to_pylist()) == 2


def test_counts_of_a_group_and_of_a_catalogue_in_parts(tmp_path: Path) -> None:
    rows = [ROWS[draw] for draw in np.random.default_rng(0).integers(0, 4, 50)]
    items = Items(StageDir(str(tmp_path)))
    for part in range(5):
        items.write(table(rows).slice(10 * part, 10), f"part-{part:05d}.parquet")
    held = Counter(trait for one in named(rows) for trait in one)
    found = traits(table(rows[:20]))
    whole = background(items, found.names)
    assert (whole.items, whole.total) == (50, sum(held.values()))
    # Troy is two traits under one spelling.
    spelling = [spelled(name) for name in found.names.to_pylist()]
    assert [n for name, n in zip(spelling, whole.counts, strict=True) if name != ("city", "Troy")] == [
        held[name] for name in spelling if name != ("city", "Troy")
    ]
    inside = found.among(np.arange(5, 9))
    loop = Counter(trait for one in named(rows[5:9]) for trait in one)
    assert (
        dict(zip(spelling, inside.tolist(), strict=True)).items()
        >= {name: n for name, n in loop.items() if name != ("city", "Troy")}.items()
    )


def test_log_odds_against_the_formula_term_by_term() -> None:
    inside, around, held, total = [4, 0, 2], [5, 9, 2], 10, 60
    found = log_odds(np.array(inside), np.array(around), held, total)
    for trait in range(3):
        alpha = held * around[trait] / total
        y_i, y_j = inside[trait] + alpha, around[trait] - inside[trait] + alpha
        delta = np.log(y_i / (held + held - y_i)) - np.log(y_j / (total - held + held - y_j))
        assert found[trait] == pytest.approx(delta / np.sqrt(1 / y_i + 1 / y_j))
    assert found[0] > found[2] > 0 > found[1]


def test_what_is_as_common_inside_as_around_tells_nothing() -> None:
    assert log_odds(np.array([10]), np.array([100]), 50, 500) == pytest.approx(0)


def test_what_was_planted_is_told_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    words = rng.zipf(1.3, (2000, 4)).clip(max=300)
    group = rng.permutation(2000)[:60]
    rows = [{"name": " ".join(f"w{word}" for word in row)} for row in words]
    plain = traits(table(rows))
    around = np.bincount(plain.trait)
    told = [
        len(telling(plain.among(rng.permutation(2000)[:60]), around, 2000, int(around.sum()))[0]) for _ in range(40)
    ]
    assert np.mean(told) < 1
    for row in group[:20]:
        rows[row] = {"name": rows[row]["name"] + " planted"}
    found = traits(table(rows))
    around = np.bincount(found.trait)
    places, z = telling(found.among(group), around, 2000, int(around.sum()))
    assert spelled(found.names[int(places[0])].as_py()) == ("name", "planted")
    assert (np.diff(z) <= 0).all()


def test_what_one_item_has_alone_is_not_said() -> None:
    assert len(telling(np.array([1, 1, 1]), np.array([1, 1, 40]), 100, 1000)[0]) == 0
    places, _ = telling(np.array([5, 1, 2]), np.array([5, 1, 40]), 60, 200)
    assert places.tolist() == [0]


def test_what_all_have_is_neither_said_nor_counted() -> None:
    # Four yogas among eleven places of one town: the town has no say in what the largest of chance would be.
    town = [4] * 40
    places, _ = telling(np.array([4, *town]), np.array([4, *[11] * 40]), 11, 4 + 11 * 40 + 60)
    assert places.tolist() == [0]
