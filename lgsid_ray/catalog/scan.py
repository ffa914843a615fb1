"""One unit of input (a file, or some towns of the synthetic world) into bucketed, validated tables."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.artifacts import Quarantine
from lgsid_ray.catalog.crowd import metro_log
from lgsid_ray.catalog.readers import read
from lgsid_ray.catalog.rows import Chunk
from lgsid_ray.catalog.settle import hashes
from lgsid_ray.catalog.sources import File, discover
from lgsid_ray.catalog.validate import Checked, check
from lgsid_ray.catalog.world import lay_out, town_items
from lgsid_ray.config.catalogue import ITEM_COORDINATES, ITEM_POINT, CatalogueConfig, FileSource, TableSource
from lgsid_ray.errors import InputError, LgsidError

FLUSH_ROWS = 200_000
TOWN_RUN_ITEMS = 25_000

_ORIGIN = [("file", pa.string()), ("row", pa.int64())]
ITEMS_IN = pa.schema(
    [(name, pa.string()) for name in ("item_id", "name")]
    + [(name, pa.float64()) for name in ("lat", "lon", "price")]
    + [(name, pa.string()) for name in ("brand", "category_1", "category_2", "province", "city", "district")]
    + _ORIGIN
)
LOG_IN = pa.schema(
    [("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64()), ("label", pa.float64()), *_ORIGIN]
)


@dataclass(frozen=True)
class Unit:
    """What one task reads: a file, or a run of towns (items) or metropolises (log) of the world."""

    table: str
    file: File | None = None
    members: tuple[int, ...] = ()


@dataclass
class Scanned:
    """Rows of a unit on their way: accepted ones, rejects for the quarantine, and counts."""

    accepted: pa.Table
    rejects: pa.Table
    read: int
    notes: Counter[str] = field(default_factory=Counter)
    coordinates: bool = False
    """Whether there are columns for lat and lon."""
    located: bool = False
    """Whether any row has something in them."""
    id_forms: Counter[str] = field(default_factory=Counter)
    """How many item ids are whole numbers ("12"), and how many doubles written as text ("12.0"), of all ("any")."""


def units(config: CatalogueConfig) -> list[Unit]:
    """All units of the catalogue, items before the log, in a fixed order."""
    source = config.source
    if isinstance(source, FileSource):
        found = [Unit("items", file) for file in discover(source.items)]
        if source.interactions is not None:
            found += [Unit("interactions", file) for file in discover(source.interactions)]
        return found
    towns = lay_out(source, config.seed)
    runs: list[list[int]] = [[]]
    for town in range(len(towns.items)):
        if runs[-1] and towns.items[runs[-1]].sum() + towns.items[town] > TOWN_RUN_ITEMS:
            runs.append([])
        runs[-1].append(town)
    found = [Unit("items", members=tuple(run)) for run in runs]
    if source.users:
        found += [Unit("interactions", members=(int(metro),)) for metro in np.unique(towns.metro)]
    return found


def scan(unit: Unit, config: CatalogueConfig) -> Iterator[Scanned]:
    """Read and validate a unit, some FLUSH_ROWS rows at a time.

    Raises:
        InputError: the file cannot be used.
    """
    if unit.file is None:
        yield _world(unit, config)
        return
    pending: list[Scanned] = []
    for chunk, checked in checked_chunks(unit, config):
        pending.append(_scanned(chunk, checked, unit, config))
        if sum(part.read for part in pending) >= FLUSH_ROWS:
            yield _merged(pending, unit.table)
            pending = []
    yield _merged(pending, unit.table)


def checked_chunks(unit: Unit, config: CatalogueConfig) -> Iterator[tuple[Chunk, Checked]]:
    """The rows of a unit that is a file, chunk by chunk, as they are and after validation.

    Raises:
        InputError: the file cannot be used.
    """
    assert unit.file is not None
    assert isinstance(config.source, FileSource)
    source = source_of(unit.table, config.source)
    for chunk in read(unit.file, source, unit.table):
        try:
            checked = check(chunk, source, unit.table, config.source.datum)
        except LgsidError:
            raise
        except Exception as error:  # whatever a cell can make a parser do
            span = f"rows {chunk.rows[0]} to {chunk.rows[-1]}" if len(chunk.rows) else "no row"
            raise InputError(f"{unit.file.label}: {span}: {type(error).__name__}: {error}") from error
        yield chunk, checked


def source_of(table: str, source: FileSource) -> TableSource:
    """The settings of the table items or interactions."""
    found = source.items if table == "items" else source.interactions
    assert found is not None
    return found


def bucketed(table: pa.Table, key: str, buckets: int) -> Iterator[tuple[int, pa.Table]]:
    """Split a table by the hash of a column; empty buckets are left out, row order is kept."""
    bucket = (hashes(table.column(key)) % np.uint64(buckets)).astype(np.int64)
    for number in np.unique(bucket):
        yield int(number), table.take(pa.array(np.flatnonzero(bucket == number)))


def _scanned(chunk: Chunk, checked: Checked, unit: Unit, config: CatalogueConfig) -> Scanned:
    assert unit.file is not None
    assert isinstance(config.source, FileSource)
    raw = [
        (int(chunk.rows[place]), column, reason, _raw(chunk.raw(place))) for place, column, reason in checked.rejects
    ]
    torn = [(row, "", reason, _encodable(text)) for row, reason, text in chunk.rejects]
    there = {*chunk.columns, *source_of(unit.table, config.source).constants}
    lat, lon = (checked.readings.get(name) for name in ITEM_COORDINATES)
    return Scanned(
        _table(checked, unit),
        Quarantine.of(unit.table, unit.file.label, [*torn, *raw]),
        len(chunk.rows) + len(chunk.rejects),
        checked.notes,
        coordinates=ITEM_POINT in there or there.issuperset(ITEM_COORDINATES),
        located=lat is not None and lon is not None and not (lat.empty & lon.empty).all(),
        id_forms=id_forms(checked.columns["item_id"]),
    )


def id_forms(ids: pa.Array) -> Counter[str]:
    """How many ids are of which form, see `Scanned.id_forms`."""
    patterns = {"12": r"^\d+$", "12.0": r"^\d+\.0$", "any": ""}
    return Counter(
        {form: pc.sum(pc.match_substring_regex(ids, pattern)).as_py() or 0 for form, pattern in patterns.items()}
    )


def _table(checked: Checked, unit: Unit) -> pa.Table:
    assert unit.file is not None
    schema = ITEMS_IN if unit.table == "items" else LOG_IN
    size = len(checked.rows)
    origin = {"row": pa.array(checked.rows), "file": pa.repeat(pa.scalar(unit.file.label), size)}
    return pa.table({f.name: {**checked.columns, **origin}[f.name] for f in schema}, schema=schema)


def _merged(parts: list[Scanned], table: str) -> Scanned:
    schema = ITEMS_IN if table == "items" else LOG_IN
    return Scanned(
        pa.concat_tables([schema.empty_table(), *[part.accepted for part in parts]]),
        pa.concat_tables([Quarantine.schema.empty_table(), *[part.rejects for part in parts]]),
        sum(part.read for part in parts),
        sum((part.notes for part in parts), Counter()),
        any(part.coordinates for part in parts),
        any(part.located for part in parts),
        sum((part.id_forms for part in parts), Counter()),
    )


def _world(unit: Unit, config: CatalogueConfig) -> Scanned:
    """The world's rows are made valid, so they pass; their place of origin is its generator."""
    source = config.source
    assert not isinstance(source, FileSource)
    towns = lay_out(source, config.seed)
    if unit.table == "items":
        table, schema = pa.concat_tables([town_items(towns, town, config.seed) for town in unit.members]), ITEMS_IN
    else:
        table, schema = metro_log(source, towns, unit.members[0], config.seed), LOG_IN
    table = table.append_column("file", pa.array([f"world:{unit.members[0]}"] * len(table), pa.string()))
    table = table.append_column("row", pa.array(np.arange(1, len(table) + 1)))
    rows = table.select(schema.names).cast(schema)
    return Scanned(rows, Quarantine.schema.empty_table(), len(rows), coordinates=True, located=True)


def _raw(row: Any) -> str:
    return _encodable(json.dumps(row, ensure_ascii=False, default=str))


def _encodable(text: str) -> str:
    """Text as Arrow holds it: halves of surrogate pairs, which no file can hold, are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
