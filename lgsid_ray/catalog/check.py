"""What a run would make of its sources, without one: read once, nothing written, some 16 bytes kept a row."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Bool, Float64, UInt64
from lgsid_ray.artifacts.labels import LEVELS, label_paths
from lgsid_ray.catalog import rejects, settle
from lgsid_ray.catalog.columns import Reading
from lgsid_ray.catalog.rows import Chunk, wanted_columns
from lgsid_ray.catalog.scan import checked_chunks, id_forms, source_of, units
from lgsid_ray.catalog.validate import Checked
from lgsid_ray.config import RunConfig
from lgsid_ray.config.catalogue import ITEM_POINT, CatalogueConfig, FileSource, TableSource
from lgsid_ray.errors import ConfigError, InputError

EXAMPLES = 3
DISTINCT = 200_000
"""Values up to which they are counted exactly."""
TRIED = 500
"""Unreadable values of a chunk that options are tried on."""
LOOKED_AT = 20_000
"""Items of which it is seen whether lat and lon are swapped."""
TIME_FORMS = (
    "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y",
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d-%m-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S", "%d-%m-%Y", "%m-%d-%Y",
    "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S %Z", "%d %b %Y", "%b %d, %Y", "%B %d, %Y", "%Y%m%d", "%Y%m%d%H%M%S", "%Y年%m月%d日",
)  # fmt: skip
"""Forms of time that makers of files use, beside ISO 8601."""


@dataclass
class ColumnReport:
    """A column of ours, over all rows of its files."""

    path: str
    example: str = ""
    how: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    """Cells by the reason why they cannot be read."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Some of them, by reason: the value and its row."""
    unread: list[str] = field(default_factory=list)
    """More of them, of all parts of the files: what an option is tried on."""
    low: float = np.inf
    high: float = -np.inf
    values: UInt64 = field(default_factory=lambda: np.empty(0, np.uint64))
    """Hashes of the distinct values, until there are more than DISTINCT."""
    many: bool = False

    @property
    def distinct(self) -> str:
        """How many values there are."""
        return f"> {DISTINCT}" if self.many else str(len(self.values))

    def add(self, reading: Reading, chunk: Chunk, name: str) -> None:
        """Count the cells of a chunk."""
        values = reading.values
        self.how.update(reading.how)
        self.empty += int(reading.empty.sum())
        given = values.drop_null()
        if len(given) and not self.example:
            self.example = str(given[0])
        for where, reason in reading.faults:
            places = np.flatnonzero(where)
            if not len(places):
                continue
            self.unreadable[reason] += len(places)
            shown = self.examples.setdefault(reason, [])
            if name in chunk.columns:
                cells = chunk.columns[name].values
                shown += [
                    f"{_cell(cells[at])} (row {chunk.rows[at]})" for at in places[: EXAMPLES - len(shown)].tolist()
                ]
                self.unread += [_cell(cells[at]) for at in places[:TRIED].tolist()]
        if len(given) and not pa.types.is_string(values.type):
            ends = pc.min_max(given)
            self.low, self.high = min(self.low, ends["min"].as_py()), max(self.high, ends["max"].as_py())
        if not self.many and len(given):
            hashes = settle.hashes(pc.unique(given).cast(pa.string()))
            self.values = pd.unique(np.concatenate([self.values, hashes]))  # np.unique takes ten times as long
            self.many = len(self.values) > DISTINCT


@dataclass
class TableReport:
    """The rows of one table."""

    columns: dict[str, ColumnReport]
    unused: dict[str, None] = field(default_factory=dict)
    read: int = 0
    accepted: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    """Rows by "column: reason"."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Some of them: file, row and raw text."""
    forms: Counter[str] = field(default_factory=Counter)


@dataclass
class Report:
    """What `lgsid check` tells.

    Attributes:
        tables: items, and interactions where there is a log. files: read, by table.
        repeated: rows of items whose item_id another row has.
        matched: rows of the log whose item is known. strangers: other item ids of the log, some.
        labels: distinct paths of 1..3 levels. filled: items whose district comes from the nearest place.
        placed, unplaced: items with and without coordinates. points: (n, 2) lat and lon.
        refusals: why a run would stop. advice: YAML that would mend something, with what it mends.
    """

    tables: dict[str, TableReport]
    files: dict[str, list[str]]
    repeated: int = 0
    matched: int = 0
    strangers: list[str] = field(default_factory=list)
    labels: list[set[str]] = field(default_factory=lambda: [set() for _ in LEVELS])
    filled: int = 0
    placed: int = 0
    unplaced: int = 0
    points: Float64 = field(default_factory=lambda: np.empty((0, 2)))
    refusals: list[str] = field(default_factory=list)
    advice: dict[str, str] = field(default_factory=dict)


def check_sources(run: RunConfig, progress: Callable[[int], None] = lambda rows: None) -> Report:
    """Read the sources as a run would, and tell what is in them. A refusal ends the reading of its table alone.

    Args:
        progress: told the number of rows read so far.

    Raises:
        ConfigError: the catalogue has no sources.
    """
    config, source = run.catalogue, run.catalogue.source
    if not isinstance(source, FileSource):
        raise ConfigError("catalogue.source is the synthetic world: there are no files to check; name yours in `items`")
    names = ["items"] + (["interactions"] if source.interactions else [])
    report = Report({name: _empty(name, source_of(name, source)) for name in names}, {name: [] for name in names})
    keys = _Keys()
    for table in names:
        try:
            for chunk, checked in _chunks(table, config, report):
                _add(report, table, chunk, checked, keys)
                progress(sum(one.read for one in report.tables.values()))
        except InputError as error:
            report.refusals.append(str(error))
        if table == "items":
            keys.settle(report)
    _guard(report, run)
    report.advice = {what: yaml for name in names for what, yaml in _advice(report, name, source_of(name, source))}
    return report


class _Keys:
    """Hashes of the items' keys: 8 bytes an item."""

    def __init__(self) -> None:
        self._parts: list[UInt64] = []
        self._points: list[Float64] = []
        self._known: UInt64 = np.empty(0, np.uint64)

    def add(self, ids: pa.Array, points: Float64) -> None:
        self._parts.append(settle.hashes(ids))
        self._points.append(points)

    def settle(self, report: Report) -> None:
        every = np.concatenate([*self._parts, np.empty(0, np.uint64)])
        self._known = np.sort(every)
        report.repeated = int((self._known[1:] == self._known[:-1]).sum())
        report.points = np.concatenate([*self._points, np.empty((0, 2))])

    def holds(self, ids: pa.Array) -> Bool:
        wanted = settle.hashes(ids)
        return np.searchsorted(self._known, wanted, "right") > np.searchsorted(self._known, wanted)


def _empty(table: str, source: TableSource) -> TableReport:
    found = {one.name: ColumnReport(one.path) for one in wanted_columns(source, table) if one.name != ITEM_POINT}
    point = {name: ColumnReport(str(source.theirs(ITEM_POINT))) for name in ("lat", "lon") if source.theirs(ITEM_POINT)}
    constant = {name: ColumnReport("a constant") for name in source.constants}
    return TableReport({**found, **point, **constant})


def _chunks(table: str, config: CatalogueConfig, report: Report) -> Iterator[tuple[Chunk, Checked]]:
    for unit in units(config):
        if unit.table == table and unit.file is not None:
            report.files[table].append(unit.file.label)
            yield from checked_chunks(unit, config)


def _add(report: Report, table: str, chunk: Chunk, checked: Checked, keys: _Keys) -> None:
    mine, file = report.tables[table], report.files[table][-1]
    mine.read += len(chunk.rows) + len(chunk.rejects)
    mine.accepted += len(checked.rows)
    mine.forms.update(id_forms(checked.columns["item_id"]))
    there = {one.path.partition(".")[0].partition("[")[0] for one in mine.columns.values()}
    mine.unused.update(dict.fromkeys(name for name in chunk.names if name and name not in there))
    for name, one in mine.columns.items():
        one.add(checked.readings[name], chunk, name)
    torn = [(reason, row, raw) for row, reason, raw in chunk.rejects]
    for at, column, reason in checked.rejects:
        told = f"{column}: {reason}"
        wanted = len(mine.examples.get(told, ())) < EXAMPLES
        torn.append((told, int(chunk.rows[at]), str(chunk.raw(at)) if wanted else ""))
    for reason, row, raw in torn:
        mine.quarantined[reason] += 1
        shown = mine.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES:
            shown.append(f"{file} row {row}: {raw}")
    ids = checked.columns["item_id"]
    if table == "items":
        _add_places(report, checked, keys, ids)
    else:
        known = keys.holds(ids)
        report.matched += int(known.sum())
        more = pc.unique(ids.filter(pa.array(~known))).to_pylist()[: EXAMPLES - len(report.strangers)]
        report.strangers += [str(one) for one in more if one not in report.strangers]


def _add_places(report: Report, checked: Checked, keys: _Keys, ids: pa.Array) -> None:
    points = np.stack([checked.columns[name].to_numpy(zero_copy_only=False) for name in ("lat", "lon")], axis=1)
    placed = ~np.isnan(points).any(axis=1)
    keys.add(ids, points[placed])
    report.placed += int(placed.sum())
    report.unplaced += int((~placed).sum())
    rows = pa.table({name: checked.columns[name] for name in ("lat", "lon", *LEVELS)})
    labelled = settle.fill_labels(rows.filter(pa.array(placed)))
    report.filled += int(pc.sum(labelled.column("district_filled")).as_py() or 0)
    for level, seen in enumerate(report.labels, start=1):
        seen.update(pc.unique(label_paths(labelled, level)).drop_null().to_pylist())


def _guard(report: Report, run: RunConfig) -> None:
    """Add what a run would stop at once all is read."""
    config = run.catalogue
    for table, limit, name in (
        ("items", config.max_quarantine, "max_quarantine"),
        ("interactions", config.max_log_quarantine, "max_log_quarantine"),
    ):
        mine = report.tables.get(table)
        if mine is None or (not mine.read and report.refusals):
            continue
        lost = mine.read - (mine.accepted if table == "items" else report.matched)
        if not mine.read:
            report.refusals.append(f"{table}: there is no row of data")
        elif lost / mine.read > limit or lost == mine.read:
            report.refusals.append(f"{table}: {lost} of {mine.read} rows are unfit; catalogue.{name} allows {limit:g}")
    log = report.tables.get("interactions")
    try:
        if log is not None:
            rejects.refuse_other_keys(report.tables["items"].forms, log.forms)
        looked = report.points[:: max(1, len(report.points) // LOOKED_AT)]
        if len(looked):
            rejects.refuse_exchanged(settle.count_exchanged(looked[:, 0], looked[:, 1]), len(looked))
    except InputError as error:
        report.refusals.append(str(error))
    if run.preferring and report.placed and len(report.labels[-1]) == 1:
        report.refusals.append(
            "all items lie in one district, so none lies elsewhere: map finer labels, or do without preferences: "
            "align.objective=distil, or no alignment"
        )


def _advice(report: Report, table: str, source: TableSource) -> Iterator[tuple[str, str]]:
    """What would be mended, and by which lines of the table's section."""
    mine = report.tables[table]
    for name, column in mine.columns.items():
        values = column.unread
        if name == "timestamp" and values:
            for form in forms_of(values):
                yield (
                    f"{table}: reads times such as {values[0]}, as {read_as(values[0], form)}",
                    f"time_format: '{form}'",
                )
        if values and all(re.fullmatch(r"[+-]?\d+,\d+", value) for value in values):
            yield f"{table}: reads {name} such as {values[0]}", "decimal: ','"
    if any("look swapped" in text for text in (*mine.quarantined, *report.refusals)) and table == "items":
        lat, lon = (source.theirs(name) for name in ("lat", "lon"))
        yield "items: lat and lon in each other's place", f"columns: {{lat: {lon}, lon: {lat}}}"
    if any("closing quote" in reason and "escape" in reason for reason in mine.quarantined):
        yield f"{table}: quotes behind a backslash", "escape: '\\'"


def forms_of(values: list[str]) -> list[str]:
    """The forms of time that all values have."""
    texts = pd.Series(values)
    return [form for form in TIME_FORMS if pd.to_datetime(texts, format=form, errors="coerce", utc=True).notna().all()]


def read_as(value: str, form: str) -> str:
    """The day that a time means in one form."""
    return str(pd.to_datetime(value, format=form, utc=True).date())


def _cell(value: pa.Scalar) -> str:
    try:
        return str(value.as_py())
    except (ValueError, OverflowError):
        return str(value)


def spelled(name: str, value: float) -> str:
    """An end of a range: a time as a date, a number as short as it is exact."""
    return datetime.fromtimestamp(value, UTC).isoformat(" ") if name == "timestamp" else f"{value:.10g}"
