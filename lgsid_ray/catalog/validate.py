"""Which rows are fit to enter: a chunk goes in, accepted columns and rejected rows come out, none is lost.

What a row cannot do without costs the row when it cannot be read; anything else becomes null, and is counted.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Bool, Float64, Int64
from lgsid_ray.catalog import columns as cells
from lgsid_ray.catalog.columns import Column, Reading
from lgsid_ray.catalog.datum import to_wgs84
from lgsid_ray.catalog.rows import Chunk
from lgsid_ray.config.catalogue import (
    ITEM_COORDINATES,
    ITEM_OPTIONAL,
    ITEM_POINT,
    ITEM_REQUIRED,
    ITEM_TEXTS,
    LOG_OPTIONAL,
    LOG_REQUIRED,
    Datum,
    TableSource,
)

NO_PLACE = "empty or NaN"
"""The reason against a row without coordinates in a catalogue that has them."""


@dataclass
class Checked:
    """A chunk after validation.

    Attributes:
        rows: (n,) row numbers of the accepted rows.
        columns: their values, (n,) each.
        rejects: (position in the chunk, column, reason) of the others.
        notes: how often a cell was converted or left empty, and why.
        readings: every column of the chunk as it was read, accepted rows and others.
    """

    rows: Int64
    columns: dict[str, pa.Array]
    rejects: list[tuple[int, str, str]]
    notes: Counter[str] = field(default_factory=Counter)
    readings: dict[str, Reading] = field(default_factory=dict)


class _Sieve:
    """Collects the first reason against each row."""

    def __init__(self, size: int) -> None:
        self.alive = np.ones(size, dtype=bool)
        self.rejects: list[tuple[int, str, str]] = []

    def reject(self, where: Bool, column: str, reason: str) -> None:
        hit = where & self.alive
        self.rejects += [(int(place), column, reason) for place in np.flatnonzero(hit)]
        self.alive &= ~hit

    def require(self, column: str, reading: Reading, empty: str | None = "empty") -> None:
        """Reject what cannot be read, and (unless `empty` is None) what is not there."""
        for where, reason in reading.faults:
            self.reject(where, column, reason)
        if empty is not None:
            self.reject(reading.empty, column, empty)


def check(chunk: Chunk, source: TableSource, table: str, datum: Datum) -> Checked:
    """Validate the rows of a chunk of the table items or interactions."""
    return check_items(chunk, source, datum) if table == "items" else check_log(chunk, source)


def check_items(chunk: Chunk, source: TableSource, datum: Datum) -> Checked:
    """Validate item rows: keys, names, coordinates (to WGS-84, both or neither); optional cells as far as they go."""
    given = _all_columns(chunk, source, (*ITEM_REQUIRED, *ITEM_OPTIONAL))
    readings = {"item_id": cells.keys(given["item_id"], source), "price": _price(given["price"], source)}
    readings |= {column: cells.texts(given[column], source) for column in ("name", *ITEM_TEXTS)}
    if ITEM_POINT in chunk.columns:
        readings["lat"], readings["lon"] = cells.points(chunk.columns[ITEM_POINT])
    else:
        readings |= {column: cells.numbers(given[column], source) for column in ITEM_COORDINATES}
    sieve = _Sieve(len(chunk.rows))
    for column in ITEM_REQUIRED:
        sieve.require(column, readings[column])
    lat, lon = _place(readings, sieve)
    notes = Counter[str]()
    for column in (*ITEM_TEXTS, "price"):
        for where, reason in readings[column].faults:
            notes[f"{column}: {reason}; left empty"] += int((where & sieve.alive).sum())
    keep = sieve.alive
    lat, lon = to_wgs84(lat[keep], lon[keep], datum)
    kept = {name: reading.values.filter(pa.array(keep)) for name, reading in readings.items()}
    kept |= {"lat": pa.array(lat, mask=np.isnan(lat)), "lon": pa.array(lon, mask=np.isnan(lon))}
    return Checked(chunk.rows[keep], kept, sieve.rejects, +notes, readings)


def check_log(chunk: Chunk, source: TableSource) -> Checked:
    """Validate log rows: keys, times (to Unix seconds), labels. No time at all is allowed, and stays null."""
    given = _all_columns(chunk, source, (*LOG_REQUIRED, *LOG_OPTIONAL))
    readings = {column: cells.keys(given[column], source) for column in LOG_REQUIRED}
    readings["timestamp"] = cells.times(given["timestamp"], source)
    readings["label"] = cells.numbers(given["label"], source, truth=True)
    sieve = _Sieve(len(chunk.rows))
    for column in LOG_REQUIRED:
        sieve.require(column, readings[column])
    timed = not readings["timestamp"].empty.all()
    sieve.require("timestamp", readings["timestamp"], "empty, while other rows have one" if timed else None)
    sieve.require("label", readings["label"], None)
    keep = sieve.alive
    kept = {name: reading.values.filter(pa.array(keep)) for name, reading in readings.items()}
    converted = {
        f"times read from {how}": count
        for how, count in readings["timestamp"].how.items()
        if how not in ("typed times", "seconds")
    }
    return Checked(chunk.rows[keep], kept, sieve.rejects, Counter(converted), readings)


def _all_columns(chunk: Chunk, source: TableSource, names: tuple[str, ...]) -> dict[str, Column]:
    """Our columns: the file's, constants, and nulls for those that are not there."""
    size = len(chunk.rows)
    absent = Column(pa.nulls(size, pa.string()))
    constants = {name: Column(pa.array([value] * size)) for name, value in source.constants.items()}
    return dict.fromkeys(names, absent) | constants | dict(chunk.columns)


def _price(column: Column, source: TableSource) -> Reading:
    """Numbers of 0 or more."""
    reading = cells.numbers(column, source)
    negative = np.asarray(pc.fill_null(pc.less(reading.values, 0), False).to_numpy(zero_copy_only=False), dtype=bool)
    faults = [*reading.faults, (negative, "less than 0")]
    return Reading(pc.if_else(pa.array(negative), None, reading.values), faults, reading.how)


def _place(readings: Mapping[str, Reading], sieve: _Sieve) -> tuple[Float64, Float64]:
    """(lat, lon) in degrees, NaN where a row has neither: whether that is fit depends on the whole catalogue."""
    neither = readings["lat"].empty & readings["lon"].empty
    for column in ITEM_COORDINATES:
        sieve.reject(readings[column].empty & ~neither, column, NO_PLACE)
        sieve.require(column, readings[column], None)
    lat, lon = (readings[column].values.to_numpy(zero_copy_only=False) for column in ITEM_COORDINATES)
    swapped = (np.abs(lat) > 90) & (np.abs(lat) <= 180) & (np.abs(lon) <= 90)
    sieve.reject(swapped, "lat", "out of range; lat and lon look swapped: exchange them in `columns`")
    sieve.reject(np.abs(lat) > 90, "lat", "out of range: not within -90..90")
    sieve.reject(np.abs(lon) > 180, "lon", "out of range: not within -180..180")
    sieve.reject((lat == 0) & (lon == 0), "lat", "(0, 0): a missing position")
    return lat, lon
