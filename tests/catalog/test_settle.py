"""Duplicates, labels and splits on one bucket's table."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Items
from lgsid_ray.catalog.settle import (
    Held,
    choose_places,
    complete,
    count_exchanged,
    duplicates,
    fill_labels,
    hashes,
    item_splits,
    log_splits,
    within,
)
from lgsid_ray.config.catalogue import SplitConfig


def _items(count: int) -> pa.Table:
    district = [f"d{row % 20}" for row in range(count)]
    return pa.table(
        {
            "item_id": [f"i{row}" for row in range(count)],
            "province": ["p"] * count,
            "city": ["c"] * count,
            "district": district,
        }
    )


def test_hashes_do_not_change_between_processes() -> None:
    assert hashes(pa.array(["a", "b"])).tolist() == hashes(pa.chunked_array([["a"], ["b"]])).tolist()
    assert hashes(pa.array(["Café"])).tolist() == [11500099839396390578]


def test_duplicates_keep_the_first_and_tell_equal_from_other() -> None:
    frame = pd.DataFrame({"item_id": ["a", "a", "b", "a", "c"], "name": ["x", "x", "x", "y", None]})
    equal, other = duplicates(frame, ["item_id"], ["name"])
    assert equal.tolist() == [False, True, False, False, False]
    assert other.tolist() == [False, False, False, True, False]


def test_labels_fill_only_what_is_missing() -> None:
    items = pa.table(
        {
            "lat": [30.2672, 30.2672],
            "lon": [-97.7431, -97.7431],
            "province": pa.array([None, "Mine"]),
            "city": pa.array([None, None], pa.string()),
            "district": pa.array([None, "Yours"]),
        }
    )
    filled = fill_labels(items).to_pylist()
    assert (filled[0]["province"], filled[0]["city"]) == ("Texas", "Austin")
    assert (filled[1]["province"], filled[1]["city"], filled[1]["district"]) == ("Mine", "Austin", "Yours")
    assert [filled[1][f"{level}_filled"] for level in ("province", "city", "district")] == [False, True, False]


def test_without_coordinates_labels_stay_the_catalogues_own() -> None:
    nothing = pa.nulls(2, pa.string())
    items = pa.table({"province": pa.array(["Film", None]), "city": nothing, "district": nothing})
    filled = fill_labels(items, located=False)
    assert filled.select(items.column_names).equals(items)
    assert not any(
        value for level in ("province", "city", "district") for value in filled[f"{level}_filled"].to_pylist()
    )


def test_what_has_no_district_lies_in_none() -> None:
    items = pa.table({"province": ["p", "p", None], "city": ["c", None, "c"], "district": ["d", "d", "d"]})
    assert within(items, frozenset({"p\x1fc\x1fd"})).tolist() == [True, False, False]
    assert within(items, frozenset()).tolist() == [False] * 3


@pytest.mark.parametrize("wanted", [0.0, 37.0, 100.0, 400.0])
def test_whole_districts_come_near_the_wanted_number(wanted: float) -> None:
    counts = {f"d{row}": row for row in range(1, 21)}
    chosen = choose_places(counts, wanted, 0, "x")
    assert abs(sum(counts[name] for name in chosen) - min(wanted, 210)) <= 10
    assert chosen == choose_places(dict(reversed(counts.items())), wanted, 0, "x")


def test_item_splits_are_the_same_in_any_block_layout() -> None:
    items = _items(1000)
    held = Held(frozenset(), frozenset(f"p\x1fc\x1fd{row}" for row in range(4)))
    whole = item_splits(items, held, 0.25, 7)
    parts = [split for start in range(0, 1000, 333) for split in item_splits(items.slice(start, 333), held, 0.25, 7)]
    assert parts == whole
    assert whole.count("held_place") == 200
    assert 150 < whole.count("held_random") < 250  # 0.25 of 800, seven sigma
    assert item_splits(items, held, 0.25, 8) != whole


def test_a_city_is_held_out_with_what_it_has_of_unknown_district() -> None:
    rows = [("p", "c", "d"), ("p", "c", None), ("p", "e", "d"), ("p", "e", None), ("q", "c", "d"), (None, "c", "d")]
    columns = zip(("province", "city", "district"), map(list, zip(*rows, strict=True)), strict=True)
    items = pa.table({"item_id": [f"i{row}" for row in range(6)], **dict(columns)})
    held = Held(frozenset({"p\x1fc"}), frozenset({"p\x1fe\x1fd"}))
    assert item_splits(items, held, 0.0, 0) == ["held_city", "held_city", "held_place", "train", "train", "train"]


def _log(users: dict[str, list[float | None]]) -> pd.DataFrame:
    rows = [(user, f"i{time}", time, label) for user, labels in users.items() for time, label in enumerate(labels)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "label"]).astype({"label": float})


def test_the_last_visit_is_test_and_nothing_after_it_is_trained_on() -> None:
    log = log_splits(_log({"a": [1, 1, 0, None, 5, 0], "b": [1, 1], "c": [0]}), SplitConfig(), (4, 5), 0)
    one = log[log["user_id"] == "a"]
    assert one["generate_split"].tolist() == ["train", "train", None, "valid", "test", None]
    assert one["rank_split"].tolist() == ["train"] * 4 + ["valid", "test"]
    assert log[log["user_id"] == "b"]["generate_split"].tolist() == ["train", "train"]
    assert log[log["user_id"] == "c"]["generate_split"].tolist() == [None]


def test_without_times_no_order_is_invented() -> None:
    log = _log({f"u{user}": [1.0] * 10 for user in range(200)})
    split = log_splits(log, SplitConfig(time_valid=0.1, time_test=0.2), None, 0)
    assert split["generate_split"].isna().all()
    shares = split["rank_split"].value_counts(normalize=True)
    assert shares["valid"] == pytest.approx(0.1, abs=0.04)
    assert shares["test"] == pytest.approx(0.2, abs=0.05)
    half = log_splits(log[1000:], SplitConfig(time_valid=0.1, time_test=0.2), None, 0)
    assert half["rank_split"].tolist() == split["rank_split"][1000:].tolist()


def test_exchanged_coordinates_are_told_where_they_leave_the_towns() -> None:
    lat, lon = np.array([40.71, 41.88, 52.37, 48.14, -33.87]), np.array([-74.0, -87.63, 4.9, 11.58, 151.21])
    assert count_exchanged(lat, lon) == 0
    assert count_exchanged(lon[:4], lat[:4]) == 4  # Sydney exchanged is out of range, and rejected before
    assert count_exchanged(np.array([0.0, -50.0]), np.array([-30.0, 20.0])) == 0  # at sea either way


def test_new_items_are_completed_as_the_catalogue_would() -> None:
    given = pa.table({"item_id": ["a", "b"], "name": ["x", "y"], "lat": [30.27, 40.71], "lon": [-97.74, -74.01]})
    found = complete(given.append_column("city", pa.array([None, "Gotham"])))
    assert found.schema.equals(Items.schema)
    assert found.column("province").to_pylist() == ["Texas", "New York"]
    assert found.column("city").to_pylist() == ["Austin", "Gotham"]
    assert found.column("city_filled").to_pylist() == [True, False]
    assert found.column("brand").null_count == 2
    unlocated = complete(given.select(["item_id", "name"]))
    assert unlocated.column("city").null_count == 2
