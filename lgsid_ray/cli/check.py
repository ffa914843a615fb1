"""The command `check`: what a run would make of the files."""

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from lgsid_ray.arrays import Float64
from lgsid_ray.catalog.check import ColumnReport, Report, TableReport, check_sources, spelled
from lgsid_ray.cli.options import console, errors, tell
from lgsid_ray.config import RunConfig

OVERRIDING = "columns, null_marks, decimal, time_format, encoding, quote and escape"
WIDE, HIGH = 72, 18
"""Characters of the map; each is two by four dots."""


def check(config: RunConfig) -> None:
    """Read the sources, print what is in them, and exit 3 where a run would refuse them."""
    with errors.status("reading") as status:
        report = check_sources(config, lambda rows: status.update(f"reading: {rows:,} rows"))
    for name, table in report.tables.items():
        console.print(_columns(name, table, report))
        console.print(_rows(name, table))
    _print_join(report)
    _print_places(report)
    for what, yaml in report.advice.items():
        tell(f"to mend {what}:\n    {yaml}")
    for refusal in report.refusals:
        errors.print(f"error: {refusal}", markup=False)
    if report.refusals:
        raise typer.Exit(3)
    tell("a run would accept this; next: lgsid run with the same --config")


def _columns(name: str, table: TableReport, report: Report) -> Table:
    files = report.files[name]
    more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
    shown = Table(
        "ours", "theirs", "taken for", "example", "empty", "unreadable", "range", "distinct",
        title=f"{name}: {files[0] if files else 'no file'}{more}",
    )  # fmt: skip
    for ours, column in table.columns.items():
        if column.how or column.unreadable:
            how = ", ".join(what for what, _ in column.how.most_common())
            cells = (
                ours,
                column.path,
                how,
                column.example,
                str(column.empty),
                _unreadable(column),
                _range(ours, column),
            )
            shown.add_row(*map(Text, (*cells, column.distinct)))
    lacking = [ours for ours, column in table.columns.items() if not column.how and not column.unreadable]
    shown.caption = "\n".join(
        [f"nothing in: {', '.join(lacking)}"] * bool(lacking)
        + [f"columns of the file that are not used: {', '.join(table.unused)}"] * bool(table.unused)
        + [f"taken for something else than it is? see {OVERRIDING} of catalogue.source.{name}"]
    )
    return shown


def _unreadable(column: ColumnReport) -> str:
    counted = column.unreadable.most_common()
    return "\n".join(f"{count} × {reason}: {', '.join(column.examples[reason])}" for reason, count in counted) or "0"


def _range(ours: str, column: ColumnReport) -> str:
    return f"{spelled(ours, column.low)} to {spelled(ours, column.high)}" if column.low <= column.high else ""


def _rows(name: str, table: TableReport) -> Table:
    shown = Table("rows", "number", "for example", title=f"{name}: rows")
    shown.add_row("read", str(table.read))
    shown.add_row("accepted", str(table.accepted))
    for reason, count in table.quarantined.most_common():
        examples = "\n".join(example[: console.width // 2] for example in table.examples[reason])
        shown.add_row(Text(f"quarantined: {reason}"), str(count), Text(examples))
    return shown


def _print_join(report: Report) -> None:
    if report.repeated:
        tell(f"{report.repeated} rows of items repeat an item_id: a run keeps the first of each, by file and row")
    log = report.tables.get("interactions")
    if log is not None and log.accepted:
        strangers = f"; unknown, for example: {', '.join(report.strangers)}" if report.strangers else ""
        share = f"{report.matched / log.accepted:.1%}"
        tell(f"{report.matched} of {log.accepted} rows of the log ({share}) are of known items{strangers}")
    tell("not seen here: duplicates in the log, and what max_items and min_interactions leave out")


def _print_places(report: Report) -> None:
    if not report.placed:
        tell("no item has coordinates: nothing will be aligned")
        return
    provinces, cities, districts = (len(seen) for seen in report.labels)
    share = f"{report.filled / report.placed:.1%}"
    tell(
        f"{provinces} provinces, {cities} cities, {districts} districts; {share} of the items take their district from "
        "the nearest populated place"
    )
    if report.unplaced:
        tell(f"{report.unplaced} items have no coordinates: a run quarantines them")
    (south, west), (north, east) = report.points.min(axis=0), report.points.max(axis=0)
    tell(f"{report.placed} points from {south:.3f}, {west:.3f} (south-west) to {north:.3f}, {east:.3f} (north-east):")
    tell(dots(report.points))


def dots(points: Float64) -> str:
    """(n, 2) degrees as a map of Braille dots, north above."""
    low, span = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-9)
    at = (points - low) / span
    row = ((1 - at[:, 0]) * (4 * HIGH - 1)).round().astype(int)
    column = (at[:, 1] * (2 * WIDE - 1)).round().astype(int)
    bits = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
    cells = np.zeros((HIGH, WIDE), dtype=int)
    np.bitwise_or.at(cells, (row // 4, column // 2), bits[row % 4, column % 2])
    return "\n".join("".join(chr(0x2800 + cell) for cell in line) for line in cells)
