"""Which rows enter the catalogue and the log, and the reason against each that does not."""

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgsid_ray.catalog.readers import Chunk
from lgsid_ray.catalog.sources import File
from lgsid_ray.catalog.validate import Checked, bears_coordinates, check_items, check_log, map_columns
from lgsid_ray.config.catalogue import ITEM_OPTIONAL, ITEM_REQUIRED, LOG_OPTIONAL, LOG_REQUIRED, TableSource
from lgsid_ray.errors import InputError

GOOD = {"item_id": "a", "name": "Cafe", "lat": 48.1, "lon": 11.5, "price": 3.0}


def _columns(rows: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    columns = {}
    for name in names:
        columns[name] = np.empty(len(rows), dtype=object)
        columns[name][:] = [row.get(name) for row in rows]
    return columns


def _items(*rows: dict[str, Any], datum: str = "wgs84") -> Checked:
    return check_items(np.arange(1, len(rows) + 1), _columns(list(rows), (*ITEM_REQUIRED, *ITEM_OPTIONAL)), datum)


def _log(*rows: dict[str, Any]) -> Checked:
    return check_log(np.arange(1, len(rows) + 1), _columns(list(rows), (*LOG_REQUIRED, *LOG_OPTIONAL)))


@pytest.mark.parametrize(
    ("change", "column", "reason"),
    [
        ({"item_id": None}, "item_id", "empty"),
        ({"item_id": "  "}, "item_id", "empty"),
        ({"item_id": float("nan")}, "item_id", "empty"),
        ({"item_id": 1.5}, "item_id", "neither text nor a whole number"),
        ({"item_id": float("inf")}, "item_id", "neither text nor a whole number"),
        ({"item_id": True}, "item_id", "neither text nor a whole number"),
        ({"item_id": ["a"]}, "item_id", "neither text nor a whole number"),
        ({"item_id": {"a": 1}}, "item_id", "neither text nor a whole number"),
        ({"name": None}, "name", "empty"),
        ({"name": ""}, "name", "empty"),
        ({"name": " \t"}, "name", "empty"),
        ({"name": float("nan")}, "name", "empty"),
        ({"lat": None}, "lat", "empty or NaN"),
        ({"lat": float("nan")}, "lat", "empty or NaN"),
        ({"lon": "nan"}, "lon", "not a finite number"),
        ({"lon": "inf"}, "lon", "not a finite number"),
        ({"lat": "north"}, "lat", "not a finite number"),
        ({"lat": [1, 2]}, "lat", "not a finite number"),
        ({"lat": True}, "lat", "not a finite number"),
        ({"lat": 90.0001, "lon": 100.0}, "lat", "not within -90..90"),
        ({"lat": 181.0}, "lat", "not within -90..90"),
        ({"lon": -180.5}, "lon", "not within -180..180"),
        ({"lat": 116.4, "lon": 39.9}, "lat", "swapped"),
        ({"lat": 0.0, "lon": 0.0}, "lat", "(0, 0)"),
        ({"lat": "0", "lon": "-0.0"}, "lat", "(0, 0)"),
        ({"price": -1}, "price", "not a number of 0 or more"),
        ({"price": "dear"}, "price", "not a number of 0 or more"),
        ({"price": float("inf")}, "price", "not a number of 0 or more"),
    ],
)
def test_an_unfit_item_is_rejected_once_with_its_row_and_reason(
    change: dict[str, Any], column: str, reason: str
) -> None:
    checked = _items(GOOD, {**GOOD, **change}, GOOD)
    assert checked.rows.tolist() == [1, 3]
    assert [(row, name) for row, name, _ in checked.rejects] == [(2, column)]
    assert reason in checked.rejects[0][2]


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
    checked = _items(*({**GOOD, "item_id": key} for key in (12, 12.0, "12", " 12 ", np.int64(12), 2**60, "012", "x")))
    assert checked.columns["item_id"].tolist() == ["12"] * 5 + [str(2**60), "012", "x"]


def test_texts_are_trimmed_and_empty_ones_null() -> None:
    row = {**GOOD, "name": " Cafe ", "brand": " ", "city": float("nan"), "district": 7}
    columns = _items(row).columns
    assert [columns[name][0] for name in ("name", "brand", "city", "district")] == ["Cafe", None, None, "7"]


@pytest.mark.parametrize("empty", [None, "", float("nan")])
@pytest.mark.parametrize("datum", ["wgs84", "bd09"])
def test_a_row_with_neither_coordinate_passes_without_a_place(empty: object, datum: str) -> None:
    checked = _items({**GOOD, "lat": empty, "lon": empty}, GOOD, datum=datum)
    assert checked.rejects == []
    assert np.isnan(checked.columns["lat"]).tolist() == np.isnan(checked.columns["lon"]).tolist() == [True, False]


def test_coordinates_leave_in_wgs84() -> None:
    lon = _items({**GOOD, "lat": 39.9087, "lon": 116.3975}, datum="gcj02").columns["lon"]
    assert 300 < (116.3975 - float(lon[0])) * 85_000 < 800  # metres; the shift in Beijing is about 530


@pytest.mark.parametrize(
    "moment", [1_700_000_000, "1700000000", 1_700_000_000_123, 1_700_000_000_123_456, 1_700_000_000_123_456_789]
)
def test_times_in_any_unit_become_seconds(moment: object) -> None:
    checked = _log({"user_id": "u", "item_id": "a", "timestamp": moment})
    assert checked.columns["timestamp"].tolist() == [1_700_000_000]
    converted = int(moment) > 10**11  # type: ignore[call-overload]
    assert bool(checked.notes) == converted


@pytest.mark.parametrize(
    "moment",
    ["2023-11-14T22:13:20Z", "2023-11-14 22:13:20", "2023-11-15T06:13:20+08:00", "Tue Nov 14 22:13:20 +0000 2023"],
)
def test_times_as_text_become_seconds(moment: str) -> None:
    checked = _log({"user_id": "u", "item_id": "a", "timestamp": moment})
    assert checked.columns["timestamp"].tolist() == [1_700_000_000]
    assert checked.notes == {"times read from dates": 1}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "+08:00"])
def test_typed_dates_become_seconds_whatever_their_unit(unit: str, zone: str | None) -> None:
    moment = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC)
    column = pa.array([moment, None], pa.timestamp(unit, zone or "UTC"))
    if zone is None:
        column = column.cast(pa.timestamp(unit))
    values = column.to_pylist()
    checked = _log(*({"user_id": "u", "item_id": "a", "timestamp": value} for value in values))
    assert checked.columns["timestamp"].tolist() == [1_700_000_000]
    assert [column for _, column, _ in checked.rejects] == ["timestamp"]


@pytest.mark.parametrize("moment", ["yesterday-ish", -5, 10**30, "9999-99-99", None, [1], True])
def test_what_is_no_time_is_rejected(moment: object) -> None:
    good = {"user_id": "u", "item_id": "a", "timestamp": 1_700_000_000}
    checked = _log(good, {**good, "timestamp": moment})
    assert [(row, column) for row, column, _ in checked.rejects] == [(2, "timestamp")]


def test_a_log_without_times_is_kept_with_null_times() -> None:
    checked = _log({"user_id": "u", "item_id": 1}, {"user_id": 2.0, "item_id": "b"})
    assert checked.rejects == []
    assert checked.columns["timestamp"].tolist() == [None, None]
    assert checked.columns["user_id"].tolist() == ["u", "2"]


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
    assert [(row, name) for row, name, _ in checked.rejects] == [(1, column)]


CELL = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from(["1", "2023-01-01", "-90", "180", 45.5, [1], {"a": 1}, b"x"]),
)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys((*ITEM_REQUIRED, *ITEM_OPTIONAL), CELL)), max_size=6))
@settings(max_examples=150, deadline=None)
def test_no_item_row_is_lost_whatever_its_cells_hold(rows: list[dict[str, Any]]) -> None:
    checked = _items(*rows)
    seen = sorted([*checked.rows.tolist(), *(row for row, _, _ in checked.rejects)])
    assert seen == list(range(1, len(rows) + 1))
    assert all(len(values) == len(checked.rows) for values in checked.columns.values())
    lat, lon = checked.columns["lat"], checked.columns["lon"]
    assert ((np.abs(lat) <= 90) & (np.abs(lon) <= 180) | np.isnan(lat) & np.isnan(lon)).all()
    assert all(isinstance(name, str) and name.strip() for name in checked.columns["name"])


@given(st.lists(st.fixed_dictionaries(dict.fromkeys((*LOG_REQUIRED, *LOG_OPTIONAL), CELL)), max_size=6))
@settings(max_examples=150, deadline=None)
def test_no_log_row_is_lost_whatever_its_cells_hold(rows: list[dict[str, Any]]) -> None:
    checked = _log(*rows)
    seen = sorted([*checked.rows.tolist(), *(row for row, _, _ in checked.rejects)])
    assert seen == list(range(1, len(rows) + 1))
    times = checked.columns["timestamp"]
    assert len({time is None for time in times}) <= 1


def _chunk(*names: str) -> Chunk:
    return Chunk(np.array([1]), {name: np.array(["x"], dtype=object) for name in names})


def _map(chunk: Chunk, **given: Any) -> dict[str, Any]:
    source = TableSource(path="a.csv", **given)
    return map_columns(chunk, source, File("a.csv", "csv"), ITEM_REQUIRED, ITEM_OPTIONAL)


def test_columns_are_mapped_and_constants_filled_in() -> None:
    found = _map(_chunk("venue", "name", "lat", "lon"), columns={"item_id": "venue"}, constants={"province": "Texas"})
    assert (found["item_id"][0], found["province"][0], found["brand"][0]) == ("x", "Texas", None)


def test_a_missing_required_column_names_file_column_and_remedy() -> None:
    with pytest.raises(InputError, match=r"a\.csv: column 'name' .* \['item_id', 'lat', 'lon'\]; map it"):
        _map(_chunk("item_id", "lat", "lon"))


@pytest.mark.parametrize(
    ("names", "given", "bears"),
    [
        (("lat", "lon"), {}, True),
        ((), {}, False),
        (("y", "lon"), {"columns": {"lat": "y"}}, True),
        (("lon",), {"constants": {"lat": 48.1}}, True),
    ],
)
def test_coordinates_are_found_by_column_mapping_or_constant(
    names: tuple[str, ...], given: dict[str, Any], bears: bool
) -> None:
    file = File("a.csv", "csv")
    assert bears_coordinates(_chunk("item_id", "name", *names), TableSource(path="a.csv", **given), file) is bears


@pytest.mark.parametrize(("there", "missing"), [("lat", "lon"), ("lon", "lat")])
def test_one_coordinate_without_the_other_is_refused(there: str, missing: str) -> None:
    with pytest.raises(
        InputError, match=rf"a\.csv: column '{missing}' is missing.*map it.*both, lat and lon, or neither"
    ):
        bears_coordinates(_chunk("item_id", "name", there), TableSource(path="a.csv"), File("a.csv", "csv"))


def test_a_mapped_optional_column_must_be_there() -> None:
    with pytest.raises(InputError, match="column 'chain' \\(our brand\\) is missing"):
        _map(_chunk("item_id", "name", "lat", "lon"), columns={"brand": "chain"})


@pytest.mark.parametrize(("mark", "word"), [(";", "';'"), ("\t", "a tab"), ("|", r"'\|'")])
def test_a_wrong_delimiter_is_recognised(mark: str, word: str) -> None:
    with pytest.raises(InputError, match=f"separated by {word}: set `delimiter`"):
        _map(_chunk(mark.join(("item_id", "name", "lat", "lon"))))
