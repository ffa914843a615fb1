"""The first rows of a file that nobody has described yet: format, options, columns and some of their values."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow.parquet as pq

from lgsid_ray.catalog.documents import objects
from lgsid_ray.catalog.sources import File, discover, open_file
from lgsid_ray.catalog.textual import Lines
from lgsid_ray.config.catalogue import TableSource
from lgsid_ray.errors import InputError

ROWS = 2_000
_BYTES = 1 << 20
_DELIMITERS = {",": "csv", "\t": "tsv", ";": "csv", "|": "csv"}


@dataclass
class Head:
    """What the first rows of a file tell.

    Attributes:
        path: as it was given. options: of the source, as they must be set. why: of an option, the reason.
        columns: every column, nested ones by their paths, with the values that are there.
        named: whether the file names its columns.
    """

    path: str
    options: dict[str, Any] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    named: bool = True

    def set(self, option: str, value: Any, why: str) -> None:
        """Settle an option of the source."""
        self.options[option], self.why[option] = value, why


def sniff(path: str) -> Head:
    """The head of the (first) file that `path` names.

    Raises:
        InputError: it is not there, or is no table.
    """
    head = Head(path)
    try:
        file = discover(TableSource(path=path))[0]
    except InputError as error:
        if "cannot tell its format" not in str(error):
            raise
        file = discover(TableSource(path=path, format="csv"))[0]
        head.set("format", "csv", "the name does not tell")
    try:
        _READERS.get(file.format, _delimited)(head, file)
    except InputError:
        raise
    except Exception as error:  # whatever a file can make a parser do
        raise InputError(f"{file.label}: cannot be read as {file.format}: {error}") from error
    if not any(head.columns.values()):
        raise InputError(f"{file.label}: there is no row of data in its first {ROWS} lines")
    return head


def _parquet(head: Head, file: File) -> None:
    with open_file(file) as stream:
        batch = next(pq.ParquetFile(stream).iter_batches(ROWS))
        _spread(head, batch.slice(0, ROWS).to_pylist())


def _documents(head: Head, file: File) -> None:
    with open_file(file) as stream:
        lines = Lines(stream, file, TableSource(path=head.path))
        _spread(head, [row for _, row, _ in islice(objects(lines, file), ROWS) if isinstance(row, dict)])


def _spread(head: Head, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for path, value in _leaves(row, ""):
            head.columns.setdefault(path, []).append(value)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Paths and scalars of a nested value; of lists the first element or two and, of scalars, all in one text."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for place, inner in enumerate(value[:2]):
            yield from _leaves(inner, f"{path}[{place}]")
        if value and not isinstance(value[0], (dict, list)):
            yield f"{path}[*]", ", ".join(map(str, value))
    elif value not in (None, ""):
        yield path, value


def _delimited(head: Head, file: File) -> None:
    lines = _text(head, file).splitlines(keepends=True)[:ROWS]
    if lines and (lines[0].startswith("sep=")):
        lines = lines[1:]
    delimiter = _delimiter(lines)
    if delimiter is None:
        raise InputError(f"{file.label}: neither commas, tabs, semicolons nor bars cut its lines into columns")
    usual = "\t" if file.format == "tsv" else ","
    if delimiter != usual:
        named = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas"}[delimiter]
        head.set("delimiter", delimiter, f"{named} cut its lines into columns, whatever the name says")
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        head.set("quote", "none", f"quotes are part of its texts: {error}")
        rows = list(csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE))
    width = Counter(map(len, rows)).most_common(1)[0][0]
    rows = [row for row in rows if len(row) == width]
    names, body = rows[0], rows[1:]
    head.named = _names(names, body)
    if not head.named:
        names, body = [f"column_{number}" for number in range(1, width + 1)], rows
    head.columns = {
        name.strip(): [row[place] for row in body if row[place].strip()] for place, name in enumerate(names)
    }


def _text(head: Head, file: File) -> str:
    with open_file(file) as stream:
        raw = stream.read(_BYTES)
    raw = raw[: raw.rfind(b"\n") + 1] or raw
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "ignore")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        head.set("encoding", "cp1252", f"it is not UTF-8 (byte 0x{raw[error.start]:02x}); look whether names read well")
        return raw.decode("cp1252", "replace")


def _delimiter(lines: list[str]) -> str | None:
    """The mark that cuts nearly all lines into as many columns, and into the most."""
    found: dict[str, int] = {}
    for mark in _DELIMITERS:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=mark))
        width, count = widths.most_common(1)[0] if widths else (1, 0)
        if width > 1 and count >= 0.8 * widths.total():
            found[mark] = width
    return max(found, key=lambda mark: found[mark], default=None)


def _names(first: list[str], body: list[list[str]]) -> bool:
    """Whether the first row holds names: all there, none a number, and unlike what stands below them."""
    if not all(name.strip() for name in first[:2]) or any(is_number(name) for name in first):
        return False
    numbers = [all(is_number(row[place]) for row in body[:50] if row[place]) for place in range(len(first))]
    below = {row[place] for row in body for place in range(len(first))}
    return any(numbers) or not below & set(first)


def is_number(text: str) -> bool:
    """Whether a text is one number, with a decimal point or comma."""
    try:
        float(str(text).strip().replace(",", ".", 1))
        return True
    except ValueError:
        return False


_READERS = {"parquet": _parquet, "json": _documents, "jsonl": _documents}


def quoted(value: Any) -> str:
    """A scalar as YAML."""
    return json.dumps(value, ensure_ascii=False)
