"""CSV and TSV: every line that a record is made of is known, so no row can be swallowed without a word."""

import csv
import re
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa

from lgsid_ray.catalog.columns import Column
from lgsid_ray.catalog.rows import CHUNK_ROWS, Chunk, Layout, Wanted, delimiter_of, lay_out, require
from lgsid_ray.catalog.sources import File
from lgsid_ray.catalog.textual import Lines
from lgsid_ray.config.catalogue import TableSource
from lgsid_ray.errors import InputError

_LONGEST_FIELD = 4 << 20
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*")
_LINE_BREAK = re.compile(r"\s*[\r\n]+\s*")
_NUMBER = re.compile(r"\s*[+-]?[\d.,]+\s*")

Reject = tuple[int, str, str]


def delimited(file: File, stream: IO[bytes], source: TableSource, wanted: list[Wanted]) -> Iterator[Chunk]:
    """The records of a file in chunks.

    Raises:
        InputError: a column is missing, or a quote hides where the rows are; the line is named.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    lines = Lines(stream, file, source)
    records = _Records(lines, file, source)
    names = source.header or records.header()
    layout = lay_out(names, wanted, file)
    require(layout, names, file, source)
    rows, kept, rejects = list[int](), list[list[str]](), list[Reject]()
    for number, record in enumerate(records.of_width(len(names)), start=1):
        if isinstance(record, str):
            rejects.append((number, record, records.raw()))
        else:
            rows.append(number)
            kept.append(record)
        if len(rows) + len(rejects) == CHUNK_ROWS:
            yield _chunk(rows, kept, rejects, names, layout)
            rows, kept, rejects = [], [], []
    lines.close()
    yield _chunk(rows, kept, rejects, names, layout)


class _Records:
    """Records out of lines, one at a time, with the lines that each was made of."""

    def __init__(self, lines: Lines, file: File, source: TableSource) -> None:
        self._lines, self._file, self._source = lines, file, source
        self._delimiter = delimiter_of(file, source)
        first = _SEPARATOR_LINE.fullmatch(lines.peek())
        if first:  # what Excel writes for itself
            lines.skip()
            self._delimiter = source.delimiter or first[1]
        self._pattern: list[bool] = []
        self._width = 0
        quoted = source.quote != "none"
        self._reader = csv.reader(
            lines if source.escape is None else self._keeping_nulls(source.escape),
            delimiter=self._delimiter,
            quotechar=('"' if source.quote == "auto" else source.quote) if quoted else None,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            doublequote=source.escape is None,
            escapechar=source.escape,
            strict=True,
        )

    def header(self) -> list[str]:
        """The names of the first record, a line break within one made a blank."""
        record = next(self._parsed(), None)
        if record is None or isinstance(record, str) or not any(name.strip() for name in record):
            told = f": {record}" if isinstance(record, str) else ""
            raise InputError(
                f"{self._file.label}: the first line is empty or no line of column names{told}; expected column names "
                "(or set `header`)"
            )
        return [_LINE_BREAK.sub(" ", name).strip() for name in record]

    def of_width(self, width: int) -> Iterator[list[str] | str]:
        """Records of `width` fields, and the reason where one is none."""
        self._width = width
        for record in self._parsed():
            if isinstance(record, str):
                yield record
            elif len(self._lines.current) > 1 and self._looks_swallowed():
                raise self._swallowed()
            elif len(record) != width:
                yield f"{len(record)} columns instead of {width}"
            elif self._lines.undecodable:
                yield self._lines.undecodable
            else:
                if not self._pattern:
                    self._pattern = [bool(_NUMBER.fullmatch(field)) for field in record]
                yield record

    def _keeping_nulls(self, escape: str) -> Iterator[str]:
        r"""The lines with the escape of every field that is a mark such as \N escaped: it is no N."""
        between = re.escape(self._delimiter)
        mark = re.compile(rf"(?<![^{between}])({re.escape(escape)}\w)(?=[{between}\r\n]|$)")
        for line in self._lines:
            yield mark.sub(lambda match: escape + match[1], line) if escape in line else line

    def raw(self) -> str:
        """The latest record as the file has it."""
        return "".join(self._lines.current).rstrip("\r\n")[:2000]

    def _parsed(self) -> Iterator[list[str] | str]:
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
                yield record

    def _reason(self, told: str) -> str:
        """Why the latest record is none.

        Raises:
            InputError: it cannot be told where it ends.
        """
        lines = self._lines.current
        unfinished = "unexpected end of data" in told or "field larger" in told
        if len(lines) > 1 and (unfinished or self._looks_swallowed()):
            raise self._swallowed()
        if unfinished:
            return "a quote opens a text that does not end"
        if "expected after" in told:
            backslash = (
                "" if self._source.escape or "\\" not in self.raw() else "; set `escape: '\\'` if it escapes them"
            )
            return f"a text goes on behind its closing quote{backslash}"
        return told

    def _looks_swallowed(self) -> bool:
        """Whether most lines of the latest record look like records of their own: as many fields, numbers as ever."""
        if self._source.quote != "auto":
            return False  # the user's word
        numeric = self._pattern or [False] * self._width
        alike = 0
        for line in self._lines.current:
            fields = line.rstrip("\r\n").split(self._delimiter)
            alike += len(fields) == self._width and all(
                not number or not field.strip() or _NUMBER.fullmatch(field) is not None
                for field, number in zip(fields, numeric, strict=True)
            )
        return 2 * alike > len(self._lines.current)

    def _swallowed(self) -> InputError:
        first = self._lines.number - len(self._lines.current) + 1
        return InputError(
            f"{self._file.label}: line {first}: a quote opens a text that runs over {len(self._lines.current)} lines, "
            "so it cannot be told how many rows there are; mend the line, or say how texts are enclosed: `quote: none` "
            "where quotes are part of the texts, `escape: '\\'` where a backslash stands before them, `quote: '\"'` "
            "where texts do run over lines that look like rows"
        )


def _chunk(rows: list[int], records: list[list[str]], rejects: list[Reject], names: list[str], layout: Layout) -> Chunk:
    columns = {
        name: Column(pa.array([record[place] for record in records], pa.string()))
        for name, (place, _) in layout.places.items()
    }

    def raw(place: int) -> dict[str, Any]:
        return dict(zip(names, records[place], strict=True))

    return Chunk(np.array(rows, dtype=np.int64), columns, raw, rejects)
