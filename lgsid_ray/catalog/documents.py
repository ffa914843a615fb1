"""JSON: an object a line, an array of objects, or a document such as GeoJSON's with its rows in one member."""

import json
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from lgsid_ray.catalog import paths
from lgsid_ray.catalog.columns import Column, scalars
from lgsid_ray.catalog.rows import CHUNK_ROWS, Chunk, Wanted, lay_out, not_scalar, require
from lgsid_ray.catalog.sources import File
from lgsid_ray.catalog.textual import Lines
from lgsid_ray.config.catalogue import ITEM_POINT, TableSource
from lgsid_ray.errors import InputError

_BLOCK = 1 << 20
_LONGEST_VALUE = 64 << 20
_ROWS_IN = ("features", "elements")
"""Members that hold a document's rows: of GeoJSON, and of what OpenStreetMap's Overpass answers."""

Row = dict[str, Any]
Found = Iterator[tuple[int, Row | str, str]]
"""Row number, the row or the reason why it is none, and the raw text of what is none."""


def documents(file: File, stream: IO[bytes], source: TableSource, wanted: list[Wanted]) -> Iterator[Chunk]:
    """The objects of a file in chunks.

    Raises:
        InputError: a column occurs in no row, holds objects, or the text stops being JSON; the place is named.
    """
    lines = Lines(stream, file, source)
    names, filled = dict[str, None](), set[str]()
    rows, kept, rejects = list[int](), list[Row](), list[tuple[int, str, str]]()
    for number, found, raw in objects(lines, file):
        if isinstance(found, str):
            rejects.append((number, found, raw))
        else:
            rows.append(number)
            kept.append(found)
            names.update(dict.fromkeys(found))
        if len(rows) + len(rejects) == CHUNK_ROWS:
            chunk = _chunk(rows, kept, rejects, list(names), wanted, file)
            filled |= _filled(chunk)
            yield chunk
            rows, kept, rejects = [], [], []
    lines.close()
    chunk = _chunk(rows, kept, rejects, list(names), wanted, file)
    if names:
        # Only now: a key may occur for the first time in the last row.
        layout = lay_out(list(names), wanted, file)
        require(layout, list(names), file, source)
        lost = [name for name, (_, steps) in layout.places.items() if steps and name not in filled | _filled(chunk)]
        if lost:
            raise InputError(f"{file.label}: nothing lies at {source.theirs(lost[0])!r} (our {lost[0]}) in any row")
    yield chunk


def objects(lines: Lines, file: File) -> Found:
    """The objects of a file, whatever way it holds them."""
    first = lines.peek().lstrip("\ufeff \t\r\n")
    if file.format == "json" and (first.startswith("[") or _is_part(first)):
        text = _Text(lines, file)
        values = text.elements() if text.next_mark() == "[" else text.elements_of(_ROWS_IN)
        for number, value in enumerate(values, start=1):
            yield (number, *_row(value))
        text.end()
    else:
        yield from _lines(lines)


def _is_part(line: str) -> bool:
    """Whether a line that should hold a row is only the beginning of a document, or all of it."""
    if not line.startswith("{"):
        return not line  # blank lines may go before a document
    try:
        value = json.loads(line)
    except ValueError:
        return True
    return any(isinstance(value.get(name), list) for name in _ROWS_IN)


def _lines(lines: Lines) -> Found:
    for line in lines:
        told, text = lines.undecodable, line.strip()
        lines.begin()
        if not text:
            continue
        try:
            found, raw = (told, text) if told else _row(json.loads(text))
        except (ValueError, RecursionError) as error:
            found, raw = f"not JSON: {error}", text
        yield lines.number, found, raw[:2000]


def _row(value: Any) -> tuple[Row | str, str]:
    """A row out of a value; a GeoJSON feature's properties are its columns, and its point is its lat and lon."""
    if not isinstance(value, dict):
        return "not an object", json.dumps(value)[:2000]
    if value.get("type") != "Feature" or not isinstance(value.get("properties") or {}, dict):
        return value, ""
    row = {name: inner for name, inner in value.items() if name not in ("type", "properties")}
    geometry = value.get("geometry")
    at = geometry.get("coordinates") if isinstance(geometry, dict) and geometry.get("type") == "Point" else None
    if isinstance(at, list) and len(at) >= 2:
        row |= {"lon": at[0], "lat": at[1]}
    return row | (value.get("properties") or {}), ""


class _Text:
    """JSON text, read as far as the value at hand needs it."""

    def __init__(self, lines: Lines, file: File) -> None:
        self._lines, self._file = lines, file
        self._decode = json.JSONDecoder().raw_decode
        self._buffer, self._at, self._passed = "", 0, 0

    def next_mark(self) -> str:
        """The next character that is no blank, which stays the next; empty at the end."""
        while True:
            rest = self._buffer[self._at :].lstrip("\ufeff \t\r\n")
            if rest:
                self._at = len(self._buffer) - len(rest)
                return rest[0]
            if not self._read():
                return ""

    def elements(self) -> Iterator[Any]:
        """The elements of the array that comes next."""
        self._take("[")
        if self.next_mark() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            if self._take(",]") == "]":
                return

    def elements_of(self, members: tuple[str, ...]) -> Iterator[Any]:
        """The elements of the first of `members` in the object that comes next."""
        self._take("{")
        seen: list[str] = []
        found = False
        while self.next_mark() != "}":
            seen.append(str(self._value()))
            self._take(":")
            if seen[-1] in members and not found and self.next_mark() == "[":
                found = True
                yield from self.elements()
            else:
                self._value()
            if self.next_mark() != "}":
                self._take(",")
        self._take("}")
        if found:
            return
        raise InputError(
            f"{self._file.label}: one JSON object with {seen[:8]}, not rows; expected an array of objects, a GeoJSON "
            "FeatureCollection, or an object a line"
        )

    def end(self) -> None:
        """Nothing may come any more.

        Raises:
            InputError: something does.
        """
        if self.next_mark():
            raise self._broken("its end was expected")

    def _value(self) -> Any:
        self.next_mark()
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
                if end < len(self._buffer) or not self._read():  # a number might go on
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._buffer) - 10
                if not cut or len(self._buffer) - self._at > _LONGEST_VALUE or not self._read():
                    raise self._broken(error.msg) from None

    def _take(self, marks: str) -> str:
        mark = self.next_mark()
        if not mark or mark not in marks:
            raise self._broken(f"expected {' or '.join(marks)}")
        self._at += 1
        return mark

    def _read(self) -> bool:
        """Read on; False at the end."""
        block = self._lines.block(max(_BLOCK, len(self._buffer) - self._at))
        self._passed += self._at
        self._buffer, self._at = self._buffer[self._at :] + block, 0
        return bool(block)

    def _broken(self, what: str) -> InputError:
        return InputError(
            f"{self._file.label}: no longer JSON from character {self._passed + self._at} on: {what}; it is cut off or "
            "damaged there, so it cannot be told how many rows there are"
        )


def _chunk(
    rows: list[int],
    found: list[Row],
    rejects: list[tuple[int, str, str]],
    names: list[str],
    wanted: list[Wanted],
    file: File,
) -> Chunk:
    columns, by_name = {}, {one.name: one for one in wanted}
    for name, (place, steps) in lay_out(names, wanted, file).places.items():
        values = [paths.descend(row.get(names[place]), steps) for row in found]
        columns[name] = column_of(values, by_name[name], file)
    return Chunk(np.array(rows, dtype=np.int64), columns, found.__getitem__, names, rejects)


def _filled(chunk: Chunk) -> set[str]:
    return {name for name, column in chunk.columns.items() if column.values.null_count < len(column) or column.odd}


def column_of(values: list[Any], one: Wanted, file: File) -> Column:
    """A column of ours out of JSON values.

    Raises:
        InputError: none of them is a scalar.
    """
    if one.name == ITEM_POINT:
        values = [json.dumps(value) if isinstance(value, dict) else value for value in values]
    column = scalars(values, one.path, one.key)
    if column.odd and column.values.null_count == len(column):
        example = values[next(iter(column.odd))]
        if isinstance(example, (dict, list)):
            kind = "objects" if isinstance(example, dict) else "lists"
            raise not_scalar(one.name, paths.below_value(example, one.path), kind, file)
    return column
