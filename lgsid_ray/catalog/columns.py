"""From the cells of a file to values: text, keys, numbers, times, points. What cannot be read is told, cell by cell.

Every conversion goes by the column's type alone, never by the look of single cells.
"""

import json
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Bool, Float64
from lgsid_ray.catalog.textual import is_text
from lgsid_ray.config.catalogue import TableSource

EXACT = 2**53
"""Doubles hold every whole number up to here, and only some beyond."""
_NO_KEY = "neither text nor a whole number"
_INEXACT = "a double beyond 2^53, which cannot hold every whole number: write the column as text or as 64-bit integers"
# Unix seconds from 1990 to 2100; a thousand times as much is milliseconds, and so on.
FIRST_S, LAST_S = 631_152_000, 4_102_444_800
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_WKT_POINT = re.compile(r"\s*(?:SRID=4326;)?\s*POINT\s*Z?\s*\(\s*(\S+)\s+(\S+)(?:\s+\S+)?\s*\)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """A column as a file holds it.

    Attributes:
        values: (n,) scalars of one Arrow type; null where there is nothing, or no scalar.
        odd: why a cell is no scalar, by position.
    """

    values: pa.Array
    odd: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Reading:
    """A column after conversion.

    Attributes:
        values: (n,) null where a cell is empty or cannot be read.
        faults: which cells cannot be read, and why.
        how: what the cells were taken for, with their number.
    """

    values: pa.Array
    faults: list[tuple[Bool, str]] = field(default_factory=list)
    how: Counter[str] = field(default_factory=Counter)

    @property
    def faulty(self) -> Bool:
        """(n,) cells that cannot be read."""
        return np.logical_or.reduce([np.zeros(len(self.values), dtype=bool), *(where for where, _ in self.faults)])

    @property
    def empty(self) -> Bool:
        """(n,) cells with nothing in them."""
        return _mask(pc.is_null(self.values)) & ~self.faulty


def scalars(values: Sequence[Any], path: str, key: bool = False) -> Column:
    """A column out of the values of JSON documents; objects, lists and halves of surrogate pairs are odd.

    So is, where they are a `key`, what `keys` refuses: mixed with text, numbers become text.
    """
    odd: dict[int, str] = {}
    cells = list(values)
    for place, value in enumerate(cells):
        if isinstance(value, (dict, list)):
            kind = "an object" if isinstance(value, dict) else "a list"
            odd[place] = f"{kind}, not one value; a path such as {_example(value, path)} leads to one"
        elif isinstance(value, str) and not is_text(value):
            odd[place] = "half of a surrogate pair: no text"
        elif key and (reason := _against_key(value)):
            odd[place] = reason
        elif value is None or value == value:
            continue
        cells[place] = None
    kinds = {type(value) for value in cells} - {type(None)}
    if kinds == {int} and max(map(abs, filter(None, cells)), default=0) >= 2**63:
        kinds = set()
    arrow = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}.get(*kinds) if len(kinds) == 1 else None
    if arrow is None:
        cells = [value if value is None or isinstance(value, str) else _spelled(value) for value in cells]
    return Column(pa.array(cells, arrow or pa.string()), odd)


def texts(column: Column, source: TableSource) -> Reading:
    """Text with outer blanks removed; empty text and null marks become null."""
    values, faults = _strings(column)
    return Reading(_without_marks(values, source), faults, _taken_for("text", values))


def keys(column: Column, source: TableSource) -> Reading:
    """Keys as text in Unicode's composed form: 12, "12" and 12.0 are one key.

    Truth values and fractions are refused, and doubles beyond 2^53: what they hold is no longer what was written.
    """
    kind, how = column.values.type, "text"
    faults: list[tuple[Bool, str]] = []
    if pa.types.is_boolean(kind):
        faults = [(_given(column.values), _NO_KEY)]
        column = Column(pa.nulls(len(column), pa.string()), column.odd)
    elif pa.types.is_floating(kind):
        numbers = _floats(column.values)
        whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
        faults = [(~np.isnan(numbers) & ~whole, _NO_KEY), (whole & (np.abs(numbers) > EXACT), _INEXACT)]
        fit = whole & (np.abs(numbers) <= EXACT)
        column = Column(pa.array(np.where(fit, numbers, 0).astype(np.int64), mask=~fit), column.odd)
        how = "whole numbers"
    elif pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        how = "whole numbers"
    values, more = _strings(column)
    if pa.types.is_decimal(kind):
        fraction = _given(values) & _mask(pc.match_substring(values, "."))
        faults.append((fraction, _NO_KEY))
        values = pc.if_else(pa.array(fraction), None, values)
    values = _without_marks(values, source)
    return Reading(pc.utf8_normalize(values, form="NFC"), [*faults, *more], _taken_for(how, values))


def numbers(column: Column, source: TableSource, truth: bool = False) -> Reading:
    """Finite numbers, also out of text with the source's decimal mark; `truth` takes true and false for 1 and 0."""
    kind = column.values.type
    if pa.types.is_boolean(kind) and truth:
        return Reading(column.values.cast(pa.float64()), _odd(column), _taken_for("true or false", column.values))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values, faults, given = _doubles(column.values), _odd(column), _given(column.values)
    else:
        texts, faults = _strings(column)
        texts = _without_marks(texts, source)
        values, given = _parsed(texts, source.decimal), _given(texts)
        if truth:
            values = pc.coalesce(values, _truth(texts))
        if pa.types.is_boolean(kind):
            values = pa.nulls(len(column), pa.float64())
    finite = np.isfinite(_floats(values))
    given &= ~_is_nan(column.values)
    faults.append((given & ~finite, "not a finite number"))
    return Reading(pc.if_else(pa.array(finite), values, None), faults, _taken_for("numbers", values))


def times(column: Column, source: TableSource) -> Reading:
    """Unix seconds (int64): of typed times; of numbers in seconds to nanoseconds, which the years 1990 to 2100 keep
    apart; of text in ISO 8601 or `time_format`, UTC where it names no zone.
    """
    kind, how = column.values.type, Counter[str]()
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        seconds, faults, given = _typed_seconds(column.values), _odd(column), _given(column.values)
        how["typed times"] = int(given.sum())
    else:
        plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if plain:
            seconds, faults = _floats(_doubles(column.values)), _odd(column)
            given = _given(column.values) & ~_is_nan(column.values)
        else:
            written, faults = _strings(column)
            written = _without_marks(written, source)
            seconds, given = _written_seconds(written, source), _given(written)
            how["dates"] = int((np.isfinite(seconds) & ~_is_number(written, source)).sum())
        seconds = _scaled(seconds, how)
    fit = (seconds >= FIRST_S) & (seconds <= LAST_S)
    form = source.time_format or "Unix time in seconds to nanoseconds, a date, or ISO 8601 text"
    remedy = "" if source.time_format else "; for another form set `time_format`"
    faults.append((given & ~fit, f"not a time between 1990 and 2100 ({form}{remedy})"))
    return Reading(pa.array(np.where(fit, seconds, 0).astype(np.int64), mask=~fit), faults, +how)


def points(column: Column) -> tuple[Reading, Reading]:
    """(lat, lon) in degrees of WKB (also as hex), WKT or GeoJSON points in WGS-84."""
    lat, lon = np.full(len(column), np.nan), np.full(len(column), np.nan)
    bad: dict[str, list[int]] = {}
    for place, value in enumerate(column.values.to_pylist()):
        if value is None or not len(value):
            continue
        try:
            lon[place], lat[place] = _point(value)
        except ValueError as error:
            bad.setdefault(str(error), []).append(place)
    faults = [*_odd(column), *((_at(places, len(column)), reason) for reason, places in bad.items())]
    how = _taken_for("points", column.values)
    return tuple(Reading(pa.array(values, mask=np.isnan(values)), faults, how) for values in (lat, lon))  # type: ignore[return-value]


def _strings(column: Column) -> tuple[pa.Array, list[tuple[Bool, str]]]:
    """A column's scalars as text, and what is none."""
    values, faults = column.values, _odd(column)
    kind = values.type
    if pa.types.is_string(kind):
        try:
            values.validate(full=True)  # Arrow does not look when it reads Parquet
            return values, faults
        except pa.ArrowInvalid:
            values = values.view(pa.binary())
            kind = values.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        found = [_decoded(value) for value in values.to_pylist()]
        lost = _given(values) & np.array([text is None for text in found], dtype=bool)
        return pa.array(found, pa.string()), [*faults, (lost, "bytes that are not UTF-8 text")]
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        found = [None if value is None or value != value else _spelled(value) for value in values.to_pylist()]
        return pa.array(found, pa.string()), faults
    if pa.types.is_temporal(kind):
        return pa.nulls(len(values), pa.string()), [*faults, (_given(values), "a time, not text")]
    return values.cast(pa.string()), faults


def _without_marks(values: pa.Array, source: TableSource) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.is_in(trimmed, pa.array(["", *source.null_marks], pa.string())), None, trimmed)


def _parsed(values: pa.Array, decimal: str) -> pa.Array:
    """Doubles out of text; null where it is no number."""
    if decimal == ",":
        values = pc.if_else(pc.match_substring(values, "."), None, values)
        values = pc.replace_substring(values, ",", ".")
    try:
        return values.cast(pa.float64())
    except pa.ArrowInvalid:
        fit = pc.match_substring_regex(values, _NUMBER)
        return pc.replace_substring_regex(pc.if_else(fit, values, None), r"^\+", "").cast(pa.float64())


def _truth(values: pa.Array) -> pa.Array:
    """1 and 0 of the words true and false; null of any other."""
    place = pc.index_in(pc.utf8_lower(values), pa.array(["false", "true"]))
    return place.cast(pa.float64())


def _typed_seconds(values: pa.Array) -> Float64:
    """Unix seconds of typed times and dates, whatever their year; NaN where there is none."""
    if pa.types.is_date32(values.type):
        per_second, ticks = 1 / 86_400, values.view(pa.int32())
    elif pa.types.is_date64(values.type):
        per_second, ticks = 1000.0, values.view(pa.int64())
    else:
        per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[values.type.unit]
        ticks = values.view(pa.int64())
    seconds: Float64 = np.floor(_floats(ticks.cast(pa.float64(), safe=False)) / per_second)
    return seconds


def _written_seconds(values: pa.Array, source: TableSource) -> Float64:
    """Unix seconds, or whatever unit a number is in, out of text; NaN where it is no time."""
    number = _is_number(values, source)
    seconds = _floats(_parsed(pc.if_else(pa.array(number), values, None), source.decimal))
    dated = _given(values) & ~number
    if dated.any():
        texts = pd.Series(np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)[dated])
        parsed = pd.to_datetime(texts, errors="coerce", utc=True, format=source.time_format or "ISO8601")
        seconds[dated] = (parsed - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return seconds


def _is_number(values: pa.Array, source: TableSource) -> Bool:
    """(n,) texts that are taken for Unix time; none where the source says what its times look like."""
    if source.time_format is not None:
        return np.zeros(len(values), dtype=bool)
    return _given(_parsed(values, source.decimal))


def _scaled(seconds: Float64, how: Counter[str]) -> Float64:
    """Seconds, out of whatever unit makes a year from 1990 to 2100 of a number."""
    out = seconds.copy()
    how["seconds"] = int(((seconds >= FIRST_S) & (seconds <= LAST_S)).sum()) - how["dates"]
    for unit, per_second in (("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9)):
        smaller = seconds / per_second
        hit = (smaller >= FIRST_S) & (smaller <= LAST_S)
        if hit.any():
            out[hit] = np.floor(smaller[hit])
            how[unit] = int(hit.sum())
    return np.asarray(np.floor(out), dtype=np.float64)


def _point(value: bytes | str) -> tuple[float, float]:
    """(x, y), which are (lon, lat), of one encoded point."""
    if isinstance(value, str):
        if match := _WKT_POINT.fullmatch(value):
            return float(match[1]), float(match[2])
        if value.lstrip().startswith("{"):
            return _geojson_point(value)
        try:
            value = bytes.fromhex(value)
        except ValueError:
            raise ValueError("neither WKB, WKT nor a GeoJSON point") from None
    return _wkb_point(value)


def _geojson_point(text: str) -> tuple[float, float]:
    found = json.loads(text)
    kind, at = found.get("type"), found.get("coordinates")
    if kind != "Point" or not isinstance(at, list) or len(at) < 2:
        raise ValueError(f"a {kind}, not a point")
    return float(at[0]), float(at[1])


def _wkb_point(value: bytes) -> tuple[float, float]:
    """OGC 06-103r4 §8.2, with PostGIS's flag of a reference system."""
    try:
        order = "<" if value[0] else ">"
        (kind,) = struct.unpack_from(f"{order}I", value, 1)
        start = 9 if kind & 0x20000000 else 5
        if start == 9 and struct.unpack_from(f"{order}I", value, 5)[0] != 4326:
            raise ValueError("a point of another reference system than WGS-84 (SRID 4326)")
        if (kind & 0xFFFF) % 1000 != 1:
            raise ValueError("a geometry, but not a point")
        x, y = struct.unpack_from(f"{order}2d", value, start)
        return x, y
    except (struct.error, IndexError):
        raise ValueError("neither WKB, WKT nor a GeoJSON point") from None


def _odd(column: Column) -> list[tuple[Bool, str]]:
    by_reason: dict[str, list[int]] = {}
    for place, reason in column.odd.items():
        by_reason.setdefault(reason, []).append(place)
    return [(_at(places, len(column)), reason) for reason, places in by_reason.items()]


def _at(places: Iterable[int], size: int) -> Bool:
    mask = np.zeros(size, dtype=bool)
    mask[list(places)] = True
    return mask


def _taken_for(what: str, values: pa.Array) -> Counter[str]:
    return Counter({what: len(values) - values.null_count}) if len(values) > values.null_count else Counter()


def _given(values: pa.Array) -> Bool:
    return _mask(pc.is_valid(values))


def _mask(values: pa.Array) -> Bool:
    return np.asarray(pc.fill_null(values, False).to_numpy(zero_copy_only=False), dtype=bool)


def _is_nan(values: pa.Array) -> Bool:
    return _mask(pc.is_nan(values)) if pa.types.is_floating(values.type) else np.zeros(len(values), dtype=bool)


def _doubles(values: pa.Array) -> pa.Array:
    return values.cast(pa.float64(), safe=False)


def _floats(values: pa.Array) -> Float64:
    """(n,) float64, NaN where null."""
    return np.array(_doubles(values).to_numpy(zero_copy_only=False), dtype=np.float64)


def _spelled(value: Any) -> str:
    """A scalar as text: whole numbers without a fraction, truth values as JSON writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    exact = not isinstance(value, float) or abs(value) <= EXACT
    return str(int(value)) if exact and value == int(value) else str(value)


def _against_key(value: Any) -> str:
    """Why a value of a JSON document can be no key; empty where it can."""
    if isinstance(value, bool) or (isinstance(value, float) and value == value and not value.is_integer()):
        return _NO_KEY
    return _INEXACT if isinstance(value, float) and abs(value) > EXACT else ""


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _example(value: Any, path: str) -> str:
    return f"{path}.{next(iter(value), 'name')}" if isinstance(value, dict) else f"{path}[0]"
