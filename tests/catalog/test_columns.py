"""Cells of every type that a file can hold, and what becomes of them."""

import datetime
import decimal
import json
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.catalog import columns as cells
from lgsid_ray.catalog.columns import Column, Reading, scalars
from lgsid_ray.config.catalogue import TableSource

SOURCE = TableSource(path="a.parquet")
HUGE = 2**53 + 2


def _column(values: list[Any], kind: pa.DataType) -> Column:
    return Column(pa.array(values, kind))


def _told(reading: Reading) -> tuple[list[Any], dict[str, list[int]]]:
    faults = {reason: np.flatnonzero(where).tolist() for where, reason in reading.faults if where.any()}
    return reading.values.to_pylist(), faults


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.string(), [" a ", "", None, "\\N"], ["a", None, None, None]),
        (pa.binary(), [b"Caf\xc3\xa9", None], ["Café", None]),
        (pa.int64(), [12, None, 2**60], ["12", None, str(2**60)]),
        (pa.uint64(), [2**64 - 1], [str(2**64 - 1)]),
        (pa.float64(), [12.0, float("nan"), None, float(2**53)], ["12", None, None, str(2**53)]),
        (pa.decimal128(38, 0), [decimal.Decimal(10**20 + 1), None], [str(10**20 + 1), None]),
        (pa.decimal128(10, 2), [decimal.Decimal("12.00")], ["12"]),
    ],
)
def test_keys_of_every_type_are_text(kind: pa.DataType, values: list[Any], expected: list[Any]) -> None:
    assert _told(cells.keys(_column(values, kind), SOURCE)) == (expected, {})


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (pa.bool_(), True, "neither text nor a whole number"),
        (pa.float64(), 1.5, "neither text nor a whole number"),
        (pa.float64(), float("inf"), "neither text nor a whole number"),
        (pa.float64(), float(HUGE), cells._INEXACT),
        (pa.decimal128(10, 2), decimal.Decimal("1.50"), "neither text nor a whole number"),
        (pa.binary(), b"\xff\xfe", "bytes that are not UTF-8 text"),
        (pa.timestamp("us"), datetime.datetime(2020, 1, 1), "a time, not text"),
    ],
)
def test_what_is_no_key_is_told(kind: pa.DataType, value: Any, reason: str) -> None:
    assert _told(cells.keys(_column([None, value], kind), SOURCE)) == ([None, None], {reason: [1]})


def test_text_in_parquet_that_is_no_text_is_told() -> None:
    broken = pa.array([b"a", b"\xff"], pa.binary()).view(pa.string())
    assert _told(cells.texts(Column(broken), SOURCE)) == (["a", None], {"bytes that are not UTF-8 text": [1]})


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.int16(), [5, None], ["5", None]),
        (pa.float64(), [5.0, 2.5, None], ["5", "2.5", None]),
        (pa.bool_(), [True, False], ["true", "false"]),
    ],
)
def test_scalars_become_text(kind: pa.DataType, values: list[Any], expected: list[Any]) -> None:
    assert _told(cells.texts(_column(values, kind), SOURCE)) == (expected, {})


@pytest.mark.parametrize(
    ("kind", "values", "expected", "faulty"),
    [
        (pa.decimal128(9, 2), [decimal.Decimal("4.25")], [4.25], []),
        (pa.float32(), [0.5, float("nan"), float("inf")], [0.5, None, None], [2]),
        (pa.string(), ["4.5", " +5 ", "-.5", "1e3", "5.", "inf", "1_000", "0x1f", "NaN", "٣"], [4.5, 5.0, -0.5, 1000.0, 5.0, *[None] * 5], [5, 6, 7, 9]),  # noqa: E501
        (pa.bool_(), [True], [None], [0]),
        (pa.binary(), [b"7"], [7.0], []),
    ],
)  # fmt: skip
def test_numbers_of_every_type(kind: pa.DataType, values: list[Any], expected: list[Any], faulty: list[int]) -> None:
    found, faults = _told(cells.numbers(_column(values, kind), SOURCE))
    assert found == expected
    assert faults == ({"not a finite number": faulty} if faulty else {})


def test_a_number_is_the_same_whatever_stands_beside_it() -> None:
    texts = [repr(value) for value in np.random.default_rng(0).normal(0, 100, 200).tolist()]
    alone = cells.numbers(_column(texts, pa.string()), SOURCE).values.to_pylist()
    beside = cells.numbers(_column([*texts, "none"], pa.string()), SOURCE).values.to_pylist()[:-1]
    assert alone == beside == [float(text) for text in texts]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "+08:00"])
def test_typed_times_become_seconds_whatever_their_unit(unit: str, zone: str | None) -> None:
    moment = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC)
    column = pa.array([moment, None], pa.timestamp(unit, zone or "UTC"))
    reading = cells.times(Column(column if zone else column.cast(pa.timestamp(unit))), SOURCE)
    assert _told(reading) == ([1_700_000_000, None], {})


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_days_become_seconds(kind: pa.DataType) -> None:
    assert _told(cells.times(_column([datetime.date(2023, 11, 14)], kind), SOURCE)) == ([1_699_920_000], {})


def test_a_year_that_no_calendar_holds_costs_its_cell_alone() -> None:
    seconds = [1_700_000_000, 1_500_000_000_000]  # the second in the year 49 503
    values, faults = _told(cells.times(Column(pa.array(seconds).cast(pa.timestamp("s"))), SOURCE))
    assert values == [1_700_000_000, None]
    assert list(faults.values()) == [[1]]


WKB = struct.pack("<BI2d", 1, 1, 11.5, 48.1)
POINTS = {
    "WKB": WKB,
    "big-endian WKB": struct.pack(">BI2d", 0, 1, 11.5, 48.1),
    "PostGIS": struct.pack("<BII2d", 1, 0x20000001, 4326, 11.5, 48.1),
    "with height": struct.pack("<BI3d", 1, 1001, 11.5, 48.1, 520.0),
    "hex": WKB.hex(),
    "WKT": "POINT (11.5 48.1)",
    "EWKT": "SRID=4326;Point Z(11.5 48.1 520)",
    "GeoJSON": json.dumps({"type": "Point", "coordinates": [11.5, 48.1]}),
}
NO_POINTS = {
    "a line": struct.pack("<BI", 1, 2) + bytes(40),
    "cut off": WKB[:-3],
    "nothing": b"x",
    "words": "downtown",
    "another system": struct.pack("<BII2d", 1, 0x20000001, 3857, 1e6, 5e6),
    "a polygon": json.dumps({"type": "Polygon", "coordinates": [[[1, 2]]]}),
    "odd JSON": "{1",
}


@pytest.mark.parametrize("value", POINTS.values(), ids=POINTS)
def test_a_point_is_longitude_first(value: bytes | str) -> None:
    lat, lon = cells.points(Column(pa.array([value, None])))
    assert (_told(lat), _told(lon)) == (([48.1, None], {}), ([11.5, None], {}))


@pytest.mark.parametrize("value", NO_POINTS.values(), ids=NO_POINTS)
def test_what_is_no_point_is_told(value: bytes | str) -> None:
    lat, lon = cells.points(Column(pa.array([value])))
    assert lat.faulty.tolist() == lon.faulty.tolist() == [True]
    assert lat.values.to_pylist() == lon.values.to_pylist() == [None]


def test_cells_of_a_json_column_keep_their_type_as_long_as_all_are_of_one() -> None:
    assert scalars([1, None, 2], "a").values.type == pa.int64()
    assert scalars([1.5, float("nan")], "a").values.to_pylist() == [1.5, None]
    assert scalars([1, 1.5, "x", True, 2**70], "a").values.to_pylist() == ["1", "1.5", "x", "true", str(2**70)]
