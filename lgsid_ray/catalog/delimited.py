"""CSV and TSV: every line that a record is made of is known, so no row can be swallowed without a word."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa

from lgsid_ray.catalog.columns import Column
from lgsid_ray.catalog.plain import LONGEST_FIELD, cut
from lgsid_ray.catalog.rows import CHUNK_ROWS, Chunk, Layout, Wanted, delimiter_of, lay_out, require
from lgsid_ray.catalog.sources import File
from lgsid_ray.catalog.textual import Lines, is_text
from lgsid_ray.config.catalogue import TableSource
from lgsid_ray.errors import InputError

_PIECE = 100
"""Lines that are parsed at once where those of a chunk cannot be."""
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*")
_LINE_BREAK = re.compile(r"\s*[\r\n]+\s*")
_NUMBER = re.compile(r"\s*[+-]?[\d.,]+\s*")

Fields = tuple[str, ...]
"""A record. Not a list: the garbage collector passes over tuples of strings, and would take as long as parsing."""


@dataclass(frozen=True)
class Torn:
    """What is no record: why, and its raw text."""

    reason: str
    raw: str


Record = Fields | Torn


def delimited(file: File, stream: IO[bytes], source: TableSource, wanted: list[Wanted]) -> Iterator[Chunk]:
    """The records of a file in chunks.

    Raises:
        InputError: a column is missing, or a quote hides where the rows are; the line is named.
    """
    csv.field_size_limit(LONGEST_FIELD)
    lines = Lines(stream, file, source)
    records = _Records(lines, file, source)
    names = source.header or records.header()
    layout = lay_out(names, wanted, file)
    require(layout, names, file, source)
    done = 0
    for batch in records.batches(len(names)):
        chunk = _whole if isinstance(batch, pa.RecordBatch) else _chunk
        yield chunk(batch, done, names, layout)
        done += len(batch)
    lines.close()


class _Records:
    """Records out of lines."""

    def __init__(self, lines: Lines, file: File, source: TableSource) -> None:
        self._lines, self._file, self._source = lines, file, source
        self._delimiter = delimiter_of(file, source)
        first = _SEPARATOR_LINE.fullmatch(lines.peek())
        if first:  # what Excel writes for itself
            lines.take(1)
            self._delimiter = source.delimiter or first[1]
        self._quote = {"auto": '"', "none": None}.get(source.quote, source.quote)
        self._width, self._pattern = 0, list[bool]()
        self._reader = self._parser(lines)

    def _parser(self, lines: Iterable[str]) -> Iterator[list[str]]:
        source = self._source
        return csv.reader(
            lines if source.escape is None else self._keeping_nulls(lines, source.escape),
            delimiter=self._delimiter,
            quotechar=self._quote,
            quoting=csv.QUOTE_NONE if self._quote is None else csv.QUOTE_MINIMAL,
            doublequote=source.escape is None,
            escapechar=source.escape,
            strict=True,
        )

    def header(self) -> list[str]:
        """The names of the first record, a line break within one made a blank."""
        record = next(self._parsed(), ())
        if isinstance(record, str) or not any(name.strip() for name in record):
            told = f": {record}" if isinstance(record, str) else ""
            raise InputError(
                f"{self._file.label}: the first line is empty or no line of column names{told}; expected column names "
                "(or set `header`)"
            )
        return [_LINE_BREAK.sub(" ", name).strip() for name in record]

    def batches(self, width: int) -> Iterator[pa.RecordBatch | Sequence[Record]]:
        """Records of `width` fields, up to CHUNK_ROWS at a time, in order: in columns, or each by itself.

        Raises:
            InputError: it cannot be told where a record ends.
        """
        self._width = width
        while lines := self._lines.take(CHUNK_ROWS):
            columns = cut(lines, width, self._delimiter, self._quote) if self._source.escape is None else None
            if columns is not None:
                self._learn([column[0].as_py() for column in columns.columns])
                yield columns
            else:
                self._lines.put_back(lines)
                yield self._piecewise(self._lines.number + len(lines))

    def _piecewise(self, last: int) -> list[Record]:
        """The records up to line `last`, or the end of the record that it is in: few lines need care, if any do."""
        found: list[Record] = []
        while self._lines.number < last and (lines := self._lines.take(min(_PIECE, last - self._lines.number))):
            if plain := self._plain(lines):
                self._learn(plain[0])
                found += plain
            else:
                self._lines.put_back(lines)
                found += self._with_care(self._lines.number + len(lines))
        return found

    def _plain(self, lines: list[str]) -> list[Fields] | None:
        """The records of lines that are a record each, whatever quotes are within; None: they need care."""
        if not all(map(str.isascii, lines)) and not is_text("".join(lines)):
            return None
        try:
            records: list[Fields] = list(map(tuple, self._parser(lines)))
        except csv.Error:
            return None
        return records if len(records) == len(lines) and set(map(len, records)) == {self._width} else None

    def _with_care(self, last: int) -> list[Record]:
        """Record by record up to line `last`, or the end of the record that it is in."""
        found: list[Record] = []
        for record in self._parsed():
            if isinstance(record, tuple) and self._looks_swallowed(whole=len(record) == self._width):
                raise self._swallowed()
            found.append(self._judged(record))
            if self._lines.number >= last:
                break
        return found

    def _judged(self, record: Fields | str) -> Record:
        reason = record if isinstance(record, str) else self._lines.undecodable
        if not reason and len(record) != self._width:
            reason = f"{len(record)} columns instead of {self._width}"
        if reason:
            return Torn(reason, "".join(self._lines.current).rstrip("\r\n")[:2000])
        assert isinstance(record, tuple)
        self._learn(record)
        return record

    def _learn(self, record: Sequence[str]) -> None:
        """Which fields of a record are numbers: what a swallowed line is known by."""
        self._pattern = self._pattern or [_NUMBER.fullmatch(field) is not None for field in record]

    def _keeping_nulls(self, lines: Iterable[str], escape: str) -> Iterator[str]:
        r"""The lines with the escape of every field that is a mark such as \N escaped: it is no N."""
        between = re.escape(self._delimiter)
        mark = re.compile(rf"(?<![^{between}])({re.escape(escape)}\w)(?=[{between}\r\n]|$)")
        for line in lines:
            yield mark.sub(lambda match: escape + match[1], line) if escape in line else line

    def _parsed(self) -> Iterator[Fields | str]:
        while True:
            self._lines.begin()
            try:
                record = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._reason(str(error))
                continue
            if record:  # an empty line is no row
                yield tuple(record)

    def _reason(self, told: str) -> str:
        """Why the latest record is none.

        Raises:
            InputError: it cannot be told where it ends.
        """
        lines = self._lines.current
        unfinished = "unexpected end of data" in told or "field larger" in told
        if len(lines) > 1 and (unfinished or self._looks_swallowed(whole=False)):
            raise self._swallowed()
        if unfinished:
            return "a quote opens a text that does not end"
        if "expected after" in told:
            backslash = "" if self._source.escape or "\\" not in lines[0] else "; set `escape: '\\'` if it escapes them"
            return f"a text goes on behind its closing quote{backslash}"
        return told

    def _looks_swallowed(self, whole: bool) -> bool:
        """Whether most lines of the latest record look like records of their own.

        Args:
            whole: whether it is a record itself; of what is none, the first line is where it went wrong.
        """
        lines = self._lines.current[0 if whole else 1 :]
        if self._source.quote != "auto" or len(self._lines.current) == 1:
            return False  # the user's word
        return 2 * sum(map(self._is_record, lines)) > len(lines)

    def _is_record(self, line: str) -> bool:
        """Whether a line has as many fields as a record, and numbers where records have them, quotes aside or not."""
        numeric = self._pattern or [False] * self._width
        try:
            parsed = next(self._parser([line]), [])
        except csv.Error:
            parsed = []
        return any(
            len(fields) == self._width
            and all(
                not number or not field.strip() or _NUMBER.fullmatch(field) is not None
                for field, number in zip(fields, numeric, strict=True)
            )
            for fields in (parsed, line.rstrip("\r\n").split(self._delimiter))
        )

    def _swallowed(self) -> InputError:
        first = self._lines.number - len(self._lines.current) + 1
        return InputError(
            f"{self._file.label}: line {first}: a quote opens a text that runs over {len(self._lines.current)} lines, "
            "so it cannot be told how many rows there are; mend the line, or say how texts are enclosed: `quote: none` "
            "where quotes are part of the texts, `escape: '\\'` where a backslash stands before them, `quote: '\"'` "
            "where texts do run over lines that look like rows"
        )


def _whole(batch: pa.RecordBatch, done: int, names: list[str], layout: Layout) -> Chunk:
    """A chunk of the rows after the first `done`, all of them records."""
    columns = {name: Column(batch.column(place)) for name, (place, _) in layout.places.items()}

    def raw(place: int) -> dict[str, Any]:
        return {name: column[place].as_py() for name, column in zip(names, batch.columns, strict=True)}

    return Chunk(np.arange(done + 1, done + len(batch) + 1), columns, raw, names)


def _chunk(batch: Sequence[Record], done: int, names: list[str], layout: Layout) -> Chunk:
    """A chunk of the rows after the first `done`."""
    records = [record for record in batch if isinstance(record, tuple)]
    torn = [(done + at, one.reason, one.raw) for at, one in enumerate(batch, start=1) if isinstance(one, Torn)]
    rows = np.setdiff1d(np.arange(done + 1, done + len(batch) + 1), [row for row, _, _ in torn], assume_unique=True)
    fields = list(zip(*records, strict=True)) or [()] * len(names)
    columns = {name: Column(pa.array(fields[place], pa.string())) for name, (place, _) in layout.places.items()}

    def raw(place: int) -> dict[str, Any]:
        return dict(zip(names, records[place], strict=True))

    return Chunk(rows, columns, raw, names, torn)
