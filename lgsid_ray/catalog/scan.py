"""One unit of input (a file, or some towns of the synthetic world) into bucketed, validated tables."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from lgsid_ray.artifacts import Quarantine
from lgsid_ray.catalog.crowd import metro_log
from lgsid_ray.catalog.readers import Chunk, read
from lgsid_ray.catalog.settle import hashes
from lgsid_ray.catalog.sources import File, discover
from lgsid_ray.catalog.validate import Checked, bears_coordinates, check_items, check_log, map_columns, unplaced
from lgsid_ray.catalog.world import lay_out, town_items
from lgsid_ray.config.catalogue import (
    ITEM_OPTIONAL,
    ITEM_REQUIRED,
    LOG_OPTIONAL,
    LOG_REQUIRED,
    CatalogueConfig,
    FileSource,
)

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
    """Read and validate a unit, some FLUSH_ROWS rows at a time."""
    if unit.file is None:
        yield _world(unit, config)
        return
    pending: list[Scanned] = []
    for chunk in read(unit.file, _source(unit, config)):
        pending.append(_check(chunk, unit, config))
        if sum(part.read for part in pending) >= FLUSH_ROWS:
            yield _merged(pending, unit.table)
            pending = []
    yield _merged(pending, unit.table)


def bucketed(table: pa.Table, key: str, buckets: int) -> Iterator[tuple[int, pa.Table]]:
    """Split a table by the hash of a column; empty buckets are left out, row order is kept."""
    bucket = (hashes(table.column(key)) % np.uint64(buckets)).astype(np.int64)
    for number in np.unique(bucket):
        yield int(number), table.take(pa.array(np.flatnonzero(bucket == number)))


def quarantine(table: str, file: str, rejects: list[tuple[int, str, str, str]]) -> pa.Table:
    """Quarantine rows of (row number, column, reason, raw)."""
    rows = [
        {"table": table, "file": file, "row": row, "column": column, "reason": reason, "raw": raw}
        for row, column, reason, raw in rejects
    ]
    return pa.Table.from_pylist(rows, schema=Quarantine.schema)


def _source(unit: Unit, config: CatalogueConfig) -> Any:
    assert isinstance(config.source, FileSource)
    return config.source.items if unit.table == "items" else config.source.interactions


def _check(chunk: Chunk, unit: Unit, config: CatalogueConfig) -> Scanned:
    assert unit.file is not None
    assert isinstance(config.source, FileSource)
    items, source = unit.table == "items", _source(unit, config)
    wanted = (ITEM_REQUIRED, ITEM_OPTIONAL) if items else (LOG_REQUIRED, LOG_OPTIONAL)
    columns = map_columns(chunk, source, unit.file, *wanted)
    checked = check_items(chunk.rows, columns, config.source.datum) if items else check_log(chunk.rows, columns)
    place = {int(row): index for index, row in enumerate(chunk.rows)}
    raw = [
        (row, column, reason, _raw({name: values[place[row]] for name, values in chunk.columns.items()}))
        for row, column, reason in checked.rejects
    ]
    torn = [(row, "", reason, text) for row, reason, text in chunk.rejects]
    return Scanned(
        _table(checked, unit),
        quarantine(unit.table, unit.file.label, [*torn, *raw]),
        len(chunk.rows) + len(chunk.rejects),
        Counter(checked.notes),
        coordinates=items and bears_coordinates(chunk, source, unit.file),
        located=items and not unplaced(columns).all(),
    )


def _table(checked: Checked, unit: Unit) -> pa.Table:
    assert unit.file is not None
    schema = ITEMS_IN if unit.table == "items" else LOG_IN
    values: dict[str, Any] = {**checked.columns, "row": checked.rows, "file": [unit.file.label] * len(checked.rows)}
    return pa.table({f.name: pa.array(values[f.name], f.type, from_pandas=True) for f in schema}, schema=schema)


def _merged(parts: list[Scanned], table: str) -> Scanned:
    schema = ITEMS_IN if table == "items" else LOG_IN
    return Scanned(
        pa.concat_tables([schema.empty_table(), *[part.accepted for part in parts]]),
        pa.concat_tables([Quarantine.schema.empty_table(), *[part.rejects for part in parts]]),
        sum(part.read for part in parts),
        sum((part.notes for part in parts), Counter()),
        any(part.coordinates for part in parts),
        any(part.located for part in parts),
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


def _raw(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)
