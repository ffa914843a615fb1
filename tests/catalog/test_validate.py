"""Which rows enter the catalogue and the log, and the reason against each that does not."""

import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgsid_ray.catalog.columns import scalars
from lgsid_ray.catalog.rows import Chunk
from lgsid_ray.catalog.validate import Checked, check_items, check_log
from lgsid_ray.config.catalogue import ITEM_OPTIONAL, ITEM_REQUIRED, LOG_OPTIONAL, LOG_REQUIRED, TableSource

GOOD = {"item_id": "a", "name": "Cafe", "lat": 48.1, "lon": 11.5, "price": 3.0}


def _chunk(rows: tuple[dict[str, Any], ...], names: tuple[str, ...]) -> Chunk:
    columns = {name: scalars([row.get(name) for row in rows], name, name.endswith("_id")) for name in names}
    return Chunk(np.arange(1, len(rows) + 1), columns, rows.__getitem__)


def _items(*rows: dict[str, Any], datum: Any = "wgs84", **settings: Any) -> Checked:
    source = TableSource(path="a.jsonl", **settings)
    return check_items(_chunk(rows, (*ITEM_REQUIRED, *ITEM_OPTIONAL)), source, datum)


def _log(*rows: dict[str, Any], **settings: Any) -> Checked:
    return check_log(_chunk(rows, (*LOG_REQUIRED, *LOG_OPTIONAL)), TableSource(path="a.jsonl", **settings))


def _of(checked: Checked, column: str) -> list[Any]:
    return list(checked.columns[column].to_pylist())


@pytest.mark.parametrize(
    ("change", "column", "reason"),
    [
        ({"item_id": None}, "item_id", "empty"),
        ({"item_id": "  "}, "item_id", "empty"),
        ({"item_id": float("nan")}, "item_id", "empty"),
        ({"item_id": 1.5}, "item_id", "neither text nor a whole number"),
        ({"item_id": float("inf")}, "item_id", "neither text nor a whole number"),
        ({"item_id": True}, "item_id", "neither text nor a whole number"),
        ({"item_id": ["a"]}, "item_id", "a list, not one value; a path such as item_id[0]"),
        ({"item_id": {"a": 1}}, "item_id", "an object, not one value; a path such as item_id.a"),
        ({"item_id": 2.0**53 + 2}, "item_id", "a double beyond 2^53"),
        ({"item_id": "NULL"}, "item_id", "empty"),
        ({"name": "half \ud83c"}, "name", "half of a surrogate pair"),
        ({"name": None}, "name", "empty"),
        ({"name": ""}, "name", "empty"),
        ({"name": " \t"}, "name", "empty"),
        ({"name": float("nan")}, "name", "empty"),
        ({"lat": None}, "lat", "empty or NaN"),
        ({"lat": float("nan")}, "lat", "empty or NaN"),
        ({"lon": "nan"}, "lon", "empty or NaN"),
        ({"lon": "inf"}, "lon", "not a finite number"),
        ({"lat": "north"}, "lat", "not a finite number"),
        ({"lat": [1, 2]}, "lat", "a list, not one value"),
        ({"lat": True}, "lat", "not a finite number"),
        ({"lat": 90.0001, "lon": 100.0}, "lat", "not within -90..90"),
        ({"lat": 181.0}, "lat", "not within -90..90"),
        ({"lon": -180.5}, "lon", "not within -180..180"),
        ({"lat": 116.4, "lon": 39.9}, "lat", "swapped"),
        ({"lat": 0.0, "lon": 0.0}, "lat", "(0, 0)"),
        ({"lat": "0", "lon": "-0.0"}, "lat", "(0, 0)"),
    ],
)
def test_an_unfit_item_is_rejected_once_with_its_row_and_reason(
    change: dict[str, Any], column: str, reason: str
) -> None:
    checked = _items(GOOD, {**GOOD, **change}, GOOD)
    assert checked.rows.tolist() == [1, 3]
    assert [(place, name) for place, name, _ in checked.rejects] == [(1, column)]
    assert reason in checked.rejects[0][2]


@pytest.mark.parametrize("price", [-1, "dear", "$5.00", "1,200.00", "$$", [5], float("inf")])
def test_an_unreadable_price_is_left_empty_and_counted(price: object) -> None:
    checked = _items(GOOD, {**GOOD, "price": price})
    assert checked.rejects == []
    assert _of(checked, "price") == [3.0, None]
    assert [(note[:7], note[-10:], count) for note, count in checked.notes.items()] == [("price: ", "left empty", 1)]


def test_a_decimal_comma_is_read_where_the_source_says_so() -> None:
    checked = _items({**GOOD, "lat": "48,1", "lon": "-11,5", "price": "1.234,5"}, decimal=",")
    assert [_of(checked, name) for name in ("lat", "lon", "price")] == [[48.1], [-11.5], [None]]


@pytest.mark.parametrize(
    "change",
    [
        {"lat": 90, "lon": 180},
        {"lat": "-90", "lon": "-180"},
        {"lat": 0.0, "lon": 11.0},
        {"lat": 5.0, "lon": 0.0},
        {"price": None},
        {"price": ""},
        {"price": "0"},
        {"lat": " 48.1 "},
    ],
)
def test_borders_and_absent_prices_are_fit(change: dict[str, Any]) -> None:
    assert _items({**GOOD, **change}).rejects == []


def test_a_row_with_many_faults_is_rejected_once() -> None:
    checked = _items({"item_id": None, "name": None, "lat": None, "lon": 500, "price": -1})
    assert len(checked.rejects) == 1


def test_keys_of_mixed_types_become_one_text() -> None:
    checked = _items(*({**GOOD, "item_id": key} for key in (12, 12.0, "12", " 12 ", 2**60, 2**70, "012", "x")))
    assert _of(checked, "item_id") == ["12"] * 4 + [str(2**60), str(2**70), "012", "x"]


def test_keys_that_look_alike_are_one_key_whatever_they_are_composed_of() -> None:
    composed, decomposed = "Caf\u00e9", "Cafe\u0301"
    assert _of(_items({**GOOD, "item_id": composed}, {**GOOD, "item_id": decomposed}), "item_id") == [composed] * 2


def test_texts_are_trimmed_and_empty_ones_null() -> None:
    row = {**GOOD, "name": " Cafe ", "brand": " ", "city": float("nan"), "district": 7, "province": "\\N"}
    columns = _items(row, {**row, "district": "x"}).columns
    found = [columns[name][0].as_py() for name in ("name", "brand", "city", "district", "province")]
    assert found == ["Cafe", None, None, "7", None]


def test_null_marks_are_the_users_to_choose() -> None:
    checked = _items({**GOOD, "brand": "nan", "city": "-"}, null_marks=["-"])
    assert (_of(checked, "brand"), _of(checked, "city")) == (["nan"], [None])


@pytest.mark.parametrize("empty", [None, "", float("nan")])
@pytest.mark.parametrize("datum", ["wgs84", "bd09"])
def test_a_row_with_neither_coordinate_passes_without_a_place(empty: object, datum: str) -> None:
    checked = _items({**GOOD, "lat": empty, "lon": empty}, GOOD, datum=datum)
    assert checked.rejects == []
    assert _of(checked, "lat")[0] is _of(checked, "lon")[0] is None
    assert _of(checked, "lat")[1] is not None


def test_coordinates_leave_in_wgs84() -> None:
    lon = _items({**GOOD, "lat": 39.9087, "lon": 116.3975}, datum="gcj02").columns["lon"][0].as_py()
    assert 300 < (116.3975 - lon) * 85_000 < 800  # metres; the shift in Beijing is about 530


@pytest.mark.parametrize(
    "moment", [1_700_000_000, "1700000000", 1_700_000_000_123, 1_700_000_000_123_456, 1_700_000_000_123_456_789]
)
def test_times_in_any_unit_become_seconds(moment: object) -> None:
    checked = _log({"user_id": "u", "item_id": "a", "timestamp": moment})
    assert _of(checked, "timestamp") == [1_700_000_000]
    converted = int(moment) > 10**11  # type: ignore[call-overload]
    assert bool(checked.notes) == converted


@pytest.mark.parametrize(
    ("moment", "form"),
    [
        ("2023-11-14T22:13:20Z", None),
        ("2023-11-14 22:13:20", None),
        ("2023-11-15T06:13:20+08:00", None),
        ("2023-11-14 22:13:20.5", None),
        ("Tue Nov 14 22:13:20 +0000 2023", "%a %b %d %H:%M:%S %z %Y"),
        ("14/11/2023 22:13:20", "%d/%m/%Y %H:%M:%S"),
        ("20231114221320", "%Y%m%d%H%M%S"),
    ],
)
def test_times_as_text_become_seconds(moment: str, form: str | None) -> None:
    checked = _log({"user_id": "u", "item_id": "a", "timestamp": moment}, time_format=form)
    assert _of(checked, "timestamp") == [1_700_000_000]
    assert checked.notes == {"times read from dates": 1}


@pytest.mark.parametrize("moment", ["13/04/2012", "03/04/2012", "04/13/2012", "Apr 3 2012", "3.4.2012"])
def test_a_form_of_time_that_nobody_named_is_not_guessed(moment: str) -> None:
    checked = _log({"user_id": "u", "item_id": "a", "timestamp": moment})
    assert [(column, "set `time_format`" in reason) for _, column, reason in checked.rejects] == [("timestamp", True)]


def test_all_times_of_a_column_are_read_in_the_one_form() -> None:
    moments = ["13/04/2012", "03/04/2012", "2012-04-13"]
    checked = _log(*({"user_id": "u", "item_id": "a", "timestamp": one} for one in moments), time_format="%d/%m/%Y")
    days = [datetime.datetime.fromtimestamp(one, datetime.UTC).date().isoformat() for one in _of(checked, "timestamp")]
    assert days == ["2012-04-13", "2012-04-03"]
    assert [place for place, _, _ in checked.rejects] == [2]


@pytest.mark.parametrize("moment", ["yesterday-ish", -5, 10**30, "9999-99-99", None, [1], True])
def test_what_is_no_time_is_rejected(moment: object) -> None:
    good = {"user_id": "u", "item_id": "a", "timestamp": 1_700_000_000}
    checked = _log(good, {**good, "timestamp": moment})
    assert [(place, column) for place, column, _ in checked.rejects] == [(1, "timestamp")]


def test_a_log_without_times_is_kept_with_null_times() -> None:
    checked = _log({"user_id": "u", "item_id": 1}, {"user_id": 2.0, "item_id": "b"})
    assert checked.rejects == []
    assert _of(checked, "timestamp") == [None, None]
    assert _of(checked, "user_id") == ["u", "2"]


@pytest.mark.parametrize(("label", "number"), [(True, 1.0), (False, 0.0), ("TRUE", 1.0), ("false", 0.0), ("4.5", 4.5)])
def test_a_label_may_be_a_truth_value(label: object, number: float) -> None:
    assert _of(_log({"user_id": "u", "item_id": "a", "label": label}), "label") == [number]


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"user_id": ""}, "user_id"),
        ({"item_id": None}, "item_id"),
        ({"label": "yes"}, "label"),
        ({"label": "inf"}, "label"),
    ],
)
def test_unfit_log_rows(change: dict[str, Any], column: str) -> None:
    checked = _log({"user_id": "u", "item_id": "a", "label": 1, **change})
    assert [(place, name) for place, name, _ in checked.rejects] == [(0, column)]


CELL = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from(["1", "2023-01-01", "-90", "180", 45.5, [1], {"a": 1}, "\ud83c"]),
)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys((*ITEM_REQUIRED, *ITEM_OPTIONAL), CELL)), max_size=6))
@settings(max_examples=150)
def test_no_item_row_is_lost_whatever_its_cells_hold(rows: list[dict[str, Any]]) -> None:
    checked = _items(*rows)
    _all_there(checked, len(rows))
    for lat, lon in zip(_of(checked, "lat"), _of(checked, "lon"), strict=True):
        assert lat is lon is None or (abs(lat) <= 90 and abs(lon) <= 180)
    assert all(name and name == name.strip() for name in _of(checked, "name"))


@given(st.lists(st.fixed_dictionaries(dict.fromkeys((*LOG_REQUIRED, *LOG_OPTIONAL), CELL)), max_size=6))
@settings(max_examples=150)
def test_no_log_row_is_lost_whatever_its_cells_hold(rows: list[dict[str, Any]]) -> None:
    checked = _log(*rows)
    _all_there(checked, len(rows))
    assert len({time is None for time in _of(checked, "timestamp")}) <= 1


def _all_there(checked: Checked, count: int) -> None:
    assert sorted([*checked.rows.tolist(), *(place + 1 for place, _, _ in checked.rejects)]) == list(
        range(1, count + 1)
    )
    assert all(len(values) == len(checked.rows) for values in checked.columns.values())


def test_constants_are_filled_in_and_absent_columns_null() -> None:
    rows = ({"item_id": "a", "name": "Cafe"},)
    source = TableSource(path="a.csv", constants={"province": "Texas", "lat": 48, "lon": 11.5})
    checked = check_items(_chunk(rows, ITEM_REQUIRED), source, "wgs84")
    assert [_of(checked, name) for name in ("province", "lat", "brand")] == [["Texas"], [48.0], [None]]
