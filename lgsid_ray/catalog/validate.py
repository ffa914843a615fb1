"""Which rows are fit to enter: a chunk goes in, accepted columns and rejected rows come out, none is lost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lgsid_ray.arrays import Bool, Float64, Int64, Object
from lgsid_ray.catalog.datum import to_wgs84
from lgsid_ray.catalog.readers import Chunk, delimiter_of
from lgsid_ray.catalog.sources import File
from lgsid_ray.config.catalogue import ITEM_COORDINATES, ITEM_TEXTS, TableSource
from lgsid_ray.errors import InputError

Columns = dict[str, NDArray[Any]]

# Unix seconds from 1990 to 2100; a thousand times as much is milliseconds, and so on.
_FIRST_S, _LAST_S = 631_152_000, 4_102_444_800

NO_PLACE = "empty or NaN"
"""The reason against a row without coordinates in a catalogue that has them."""


@dataclass
class Checked:
    """A chunk after validation.

    Attributes:
        rows: (n,) row numbers of the accepted rows.
        columns: their values, (n,) each.
        rejects: (row number, column, reason) of the others.
        notes: how often something was repaired, by what.
    """

    rows: Int64
    columns: Columns
    rejects: list[tuple[int, str, str]]
    notes: dict[str, int] = field(default_factory=dict)


class _Sieve:
    """Collects the first reason against each row."""

    def __init__(self, rows: Int64) -> None:
        self.rows, self.alive = rows, np.ones(len(rows), dtype=bool)
        self.rejects: list[tuple[int, str, str]] = []

    def reject(self, where: Bool, column: str, reason: str) -> None:
        hit = where & self.alive
        self.rejects += [(int(row), column, reason) for row in self.rows[hit]]
        self.alive &= ~hit


def map_columns(
    chunk: Chunk, source: TableSource, file: File, required: tuple[str, ...], optional: tuple[str, ...]
) -> Columns:
    """Our columns out of theirs; absent optional ones are all null, constants are filled in.

    Raises:
        InputError: a required or an explicitly mapped column is not in the file.
    """
    found: Columns = {}
    for name in (*required, *optional):
        theirs = source.columns.get(name, name)
        if name in source.constants:
            found[name] = np.full(len(chunk.rows), source.constants[name], dtype=object)
        elif theirs in chunk.columns:
            found[name] = chunk.columns[theirs]
        elif name in required or name in source.columns:
            raise InputError(_missing(name, theirs, chunk, source, file))
        else:
            found[name] = np.full(len(chunk.rows), None, dtype=object)
    return found


def bears_coordinates(chunk: Chunk, source: TableSource, file: File) -> bool:
    """Whether the file has columns for lat and lon, or the configuration sets them.

    Raises:
        InputError: for one of them only.
    """
    theirs = {name: source.columns.get(name, name) for name in ITEM_COORDINATES}
    missing = [name for name in ITEM_COORDINATES if name not in source.constants and theirs[name] not in chunk.columns]
    if len(missing) == 1:
        told = _missing(missing[0], theirs[missing[0]], chunk, source, file)
        raise InputError(f"{told}; items have both, lat and lon, or neither")
    return not missing


def unplaced(columns: Mapping[str, Object]) -> Bool:
    """(n,) rows with neither lat nor lon. They pass here: whether they are fit depends on the whole catalogue."""
    return _is_null(columns["lat"]) & _is_null(columns["lon"])


def check_items(rows: Int64, columns: Mapping[str, Object], datum: str) -> Checked:
    """Validate item rows: keys, names, coordinates (to WGS-84, both or neither), price; empty text becomes null."""
    sieve = _Sieve(rows)
    item_id = keys(columns["item_id"], sieve, "item_id")
    name = texts(columns["name"])
    sieve.reject(_is_null(name), "name", "empty")
    lat, lon = (_degrees(columns, sieve, name) for name in ITEM_COORDINATES)
    swapped = (np.abs(lat) > 90) & (np.abs(lat) <= 180) & (np.abs(lon) <= 90)
    sieve.reject(swapped, "lat", "out of range; lat and lon look swapped: exchange them in `columns`")
    sieve.reject(np.abs(lat) > 90, "lat", "out of range: not within -90..90")
    sieve.reject(np.abs(lon) > 180, "lon", "out of range: not within -180..180")
    sieve.reject((lat == 0) & (lon == 0), "lat", "(0, 0): a missing position")
    price, unreadable = _prices(columns["price"])
    sieve.reject(unreadable, "price", "not a number of 0 or more")
    keep = sieve.alive
    lat, lon = to_wgs84(lat[keep], lon[keep], datum)
    accepted: Columns = {"item_id": item_id[keep], "name": name[keep], "lat": lat, "lon": lon, "price": price[keep]}
    accepted |= {column: texts(columns[column])[keep] for column in ITEM_TEXTS}
    return Checked(rows[keep], accepted, sieve.rejects)


def check_log(rows: Int64, columns: Mapping[str, Object]) -> Checked:
    """Validate log rows: keys, times (to Unix seconds), labels. No time at all is allowed, and stays null."""
    sieve, notes = _Sieve(rows), dict[str, int]()
    user_id, item_id = keys(columns["user_id"], sieve, "user_id"), keys(columns["item_id"], sieve, "item_id")
    given = columns["timestamp"]
    timed = not _is_null(given).all()
    seconds = np.full(len(rows), np.nan)
    if timed:
        sieve.reject(_is_null(given), "timestamp", "empty, while other rows have one")
        seconds, notes = _times(given, sieve)
    label = _parsed(columns["label"])
    sieve.reject(~np.isfinite(label) & ~_is_null(columns["label"]), "label", "not a finite number")
    keep = sieve.alive
    times = np.full(int(keep.sum()), None, dtype=object)
    if timed:
        times[:] = seconds[keep].astype(np.int64)
    values: Columns = {"user_id": user_id[keep], "item_id": item_id[keep], "timestamp": times, "label": label[keep]}
    return Checked(rows[keep], values, sieve.rejects, notes)


def keys(values: Object, sieve: _Sieve, column: str) -> Object:
    """Keys as text: 12, "12" and 12.0 are one key; anything that text would not keep apart is rejected."""
    out = np.full(len(values), None, dtype=object)
    odd = np.zeros(len(values), dtype=bool)
    for row, value in enumerate(values):
        if value is None or value != value:
            continue
        if isinstance(value, str):
            out[row] = value.strip() or None
        elif isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            odd[row] = True
        elif float(value).is_integer():
            out[row] = str(int(value))
        else:
            odd[row] = True
    sieve.reject(odd, column, "neither text nor a whole number")
    sieve.reject(_is_null(out), column, "empty")
    return out


def texts(values: Object) -> Object:
    """Text with outer blanks removed; empty and NaN become null."""
    out = np.full(len(values), None, dtype=object)
    for row, value in enumerate(values):
        if value is not None and value == value:
            out[row] = str(value).strip() or None
    return out


def _missing(name: str, theirs: str, chunk: Chunk, source: TableSource, file: File) -> str:
    there = list(chunk.columns)
    ours = f" (our {name})" if theirs != name else ""
    message = f"{file.label}: column {theirs!r}{ours} is missing; the file has {there}"
    if len(there) == 1 and file.format in ("csv", "tsv"):
        used = delimiter_of(file, source)
        for mark, word in (("\t", "a tab"), (";", "';'"), (",", "','"), ("|", "'|'")):
            if mark != used and mark in there[0]:
                return f"{message}; it looks separated by {word}: set `delimiter` to it"
    return f"{message}; map it with `columns: {{{name}: theirs}}`"


def _is_null(values: Object) -> Bool:
    return np.asarray(pd.isna(values), dtype=bool) | (values == "")


def _degrees(columns: Mapping[str, Object], sieve: _Sieve, column: str) -> Float64:
    """One coordinate; NaN where the row has neither."""
    degrees, empty = _parsed(columns[column]), _is_null(columns[column])
    sieve.reject(empty & ~unplaced(columns), column, NO_PLACE)
    sieve.reject(~np.isfinite(degrees) & ~empty, column, "not a finite number")
    return degrees


def _prices(values: Object) -> tuple[Float64, Bool]:
    price = _parsed(values)
    return price, ~_is_null(values) & ~((price >= 0) & np.isfinite(price))


def _parsed(values: Object) -> Float64:
    """Numbers, also out of text; NaN for anything else, truth values among it."""
    truth = np.fromiter((isinstance(value, (bool, np.bool_)) for value in values), bool, len(values))
    plain = values.copy()
    plain[truth] = None
    return np.array(pd.to_numeric(pd.Series(plain), errors="coerce"), dtype=np.float64)


def _times(values: Object, sieve: _Sieve) -> tuple[Float64, dict[str, int]]:
    """Unix seconds from numbers (seconds to nanoseconds), and from dates, typed or as text (UTC without a zone)."""
    notes: dict[str, int] = {}
    numbers = values.copy()
    # Typed dates would pass for numbers, in a unit that depends on the type.
    numbers[np.fromiter((isinstance(value, date) for value in values), bool, len(values))] = None
    seconds = _parsed(numbers)
    text = np.isnan(seconds) & ~_is_null(values)
    if text.any():
        parsed = pd.to_datetime(pd.Series(values[text]), errors="coerce", utc=True, format="mixed")
        seconds[text] = (parsed - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        notes["times read from dates"] = int(parsed.notna().sum())
    units: list[tuple[str, Callable[[Float64], Float64]]] = [
        ("milliseconds", lambda value: value / 1e3),
        ("microseconds", lambda value: value / 1e6),
        ("nanoseconds", lambda value: value / 1e9),
    ]
    for unit, convert in units:
        smaller = convert(seconds)
        hit = (seconds > _LAST_S) & (smaller >= _FIRST_S) & (smaller <= _LAST_S)
        if hit.any():
            seconds[hit] = np.floor(smaller[hit])
            notes[f"times in {unit} converted"] = int(hit.sum())
    bad = ~((seconds >= _FIRST_S) & (seconds <= _LAST_S))
    sieve.reject(
        bad,
        "timestamp",
        "not a time between 1990 and 2100 (Unix time in seconds to nanoseconds, a date, or ISO 8601 text)",
    )
    return np.where(bad, 0.0, seconds), notes
