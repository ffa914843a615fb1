"""Files in: their rows in chunks, every row with its number. Nothing is held whole.

A chunk is a dict of object arrays by the file's own column names; text formats give strings. What cannot even be
split into columns comes out as a reject with its row number.
"""

import csv as text_csv
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from lgsid_ray.arrays import Int64, Object
from lgsid_ray.catalog.sources import File, open_file
from lgsid_ray.config.catalogue import TableSource
from lgsid_ray.errors import InputError

CHUNK_ROWS = 20_000
_CSV_BLOCK = 4 << 20


@dataclass
class Chunk:
    """Some rows of a file.

    Attributes:
        rows: (n,) 1-based data row numbers within the file.
        columns: the file's columns, (n,) objects each.
        rejects: rows that could not be read: number, reason, raw text.
    """

    rows: Int64
    columns: dict[str, Object]
    rejects: list[tuple[int, str, str]] = field(default_factory=list)


def read(file: File, source: TableSource) -> Iterator[Chunk]:
    """The rows of `file` in order.

    Raises:
        InputError: it is truncated, not UTF-8, or not what its format says; file and position are named.
    """
    reader = {"parquet": _parquet, "csv": _csv, "tsv": _csv, "jsonl": _jsonl}[file.format]
    try:
        with open_file(file) as stream:
            yield from reader(file, stream, source)
    except (pa.ArrowInvalid, zipfile.BadZipFile, EOFError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{file.label}: {_explain(error, file)}") from error


def delimiter_of(file: File, source: TableSource) -> str:
    """The delimiter that `file` is read with."""
    return source.delimiter or ("\t" if file.format == "tsv" else ",")


def _parquet(file: File, stream: IO[bytes], source: TableSource) -> Iterator[Chunk]:
    done = 0
    for batch in pq.ParquetFile(stream).iter_batches(batch_size=CHUNK_ROWS):
        columns = {name: _objects(batch.column(name)) for name in batch.schema.names}
        yield Chunk(np.arange(done + 1, done + len(batch) + 1), columns)
        done += len(batch)


def _objects(column: pa.Array) -> Object:
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values


def _csv(file: File, stream: IO[bytes], source: TableSource) -> Iterator[Chunk]:
    bad: list[tuple[int, str, str]] = []
    header_lines = 0 if source.header else 1

    def reject(row: Any) -> str:
        reason = f"{row.actual_columns} columns instead of {row.expected_columns}"
        bad.append((row.number - header_lines, reason, row.text))
        return "skip"

    delimiter = delimiter_of(file, source)
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=reject)
    names = source.header or _header(file, delimiter)
    reader = csv.open_csv(
        stream,
        csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK, column_names=names, skip_rows=header_lines),
        parse,
        csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]),
    )
    done = 0
    for batch in reader:
        rows = np.arange(done + 1, done + len(batch) + 1)
        for number, _, _ in bad:
            rows[rows >= number] += 1  # a row that was left out still has its number
        done = int(rows[-1]) if len(rows) else done
        columns = {name: _objects(batch.column(name)) for name in batch.schema.names}
        yield Chunk(rows, columns, [reject for reject in bad if reject[0] < done])
        bad[:] = [reject for reject in bad if reject[0] > done]  # Arrow reads ahead: these belong to later rows
    if bad:
        yield Chunk(np.empty(0, np.int64), {name: np.empty(0, object) for name in names}, bad)


def _header(file: File, delimiter: str) -> list[str]:
    """The first line's names; read apart from the rest, so that every column can be asked for as text."""
    with open_file(file) as stream:
        line = io.TextIOWrapper(stream, encoding="utf-8-sig").readline()
    if not line.strip():
        raise InputError(f"{file.label}: the first line is empty; expected column names (or set `header`)")
    return [name.strip() for name in next(text_csv.reader([line], delimiter=delimiter))]


def _jsonl(file: File, stream: IO[bytes], source: TableSource) -> Iterator[Chunk]:
    rows: list[tuple[int, dict[str, Any]]] = []
    bad: list[tuple[int, str, str]] = []
    names: dict[str, None] = {}
    for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8-sig"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("not an object")
            rows.append((number, value))
            names.update(dict.fromkeys(value))
        except ValueError as error:
            bad.append((number, f"not JSON: {error}", line.strip()[:500]))
        if len(rows) >= CHUNK_ROWS:
            yield _json_chunk(rows, bad, list(names))
            rows, bad = [], []
    yield _json_chunk(rows, bad, list(names))


def _json_chunk(rows: list[tuple[int, dict[str, Any]]], bad: list[tuple[int, str, str]], names: list[str]) -> Chunk:
    columns = {}
    for name in names:
        columns[name] = np.empty(len(rows), dtype=object)
        columns[name][:] = [value.get(name) for _, value in rows]
    return Chunk(np.array([number for number, _ in rows], dtype=np.int64), columns, bad)


def _explain(error: Exception, file: File) -> str:
    text = str(error).rstrip(".")
    if file.format != "parquet" and (isinstance(error, UnicodeDecodeError) or "UTF8" in text or "UTF-8" in text):
        return _not_utf8(file)
    if isinstance(error, EOFError) or "Parquet magic bytes" in text or "footer" in text:
        return f"truncated or not {file.format} ({text}); fetch or write it again, or set `format`"
    return f"cannot be read as {file.format}: {text}; fetch or write it again, or set `format`"


def _not_utf8(file: File) -> str:
    """Where it is not: what the decoders tell is a position within some buffer of theirs."""
    with open_file(file) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                wide = number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff")
                encoding = "UTF-16" if wide else "LATIN1"
                return (
                    f"line {number} is not UTF-8 (byte 0x{line[error.start]:02x}); convert the file, "
                    f"for example with iconv -f {encoding} -t UTF-8"
                )
    return "not UTF-8; convert it, for example with iconv -f LATIN1 -t UTF-8"
