"""Files in: their rows in chunks, every row with its number. Nothing is held whole."""

import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lgsid_ray.catalog import paths
from lgsid_ray.catalog.columns import Column
from lgsid_ray.catalog.delimited import delimited
from lgsid_ray.catalog.documents import column_of, documents
from lgsid_ray.catalog.rows import CHUNK_ROWS, Chunk, Wanted, lay_out, not_scalar, require, wanted_columns
from lgsid_ray.catalog.sources import File, open_file
from lgsid_ray.config.catalogue import ITEM_POINT, TableSource
from lgsid_ray.errors import InputError, LgsidError

_READERS = {"csv": delimited, "tsv": delimited, "json": documents, "jsonl": documents}


def read(file: File, source: TableSource, table: str) -> Iterator[Chunk]:
    """The rows of `file`, a part of the `table` items or interactions, in order.

    Raises:
        InputError: it is damaged, not what its format says, or lacks a column; file and place are named.
    """
    reader = _READERS.get(file.format, _parquet)
    done = 0
    try:
        with open_file(file) as stream:
            for chunk in reader(file, stream, source, wanted_columns(source, table)):
                yield chunk
                done += len(chunk.rows) + len(chunk.rejects)
    except (LgsidError, MemoryError):
        raise
    except Exception as error:  # whatever a file can make a parser do
        raise InputError(f"{file.label}: {_explain(error, file, done)}") from error


def _parquet(file: File, stream: IO[bytes], source: TableSource, wanted: list[Wanted]) -> Iterator[Chunk]:
    parquet = pq.ParquetFile(stream)
    names = parquet.schema_arrow.names
    layout = lay_out(names, wanted, file)
    require(layout, names, file, source)
    needed = sorted({names[place] for place, _ in layout.places.values()})
    by_name = {one.name: one for one in wanted}
    done = 0
    for batch in parquet.iter_batches(batch_size=CHUNK_ROWS, columns=needed):
        columns = {
            name: _column(batch.column(names[place]), steps, by_name[name], file)
            for name, (place, steps) in layout.places.items()
        }
        yield Chunk(np.arange(done + 1, done + len(batch) + 1), columns, _raw_of(batch), names)
        done += len(batch)


def _column(column: pa.Array, steps: paths.Steps, one: Wanted, file: File) -> Column:
    try:
        column, steps = paths.descend_structs(column, steps)
    except KeyError as error:
        raise InputError(
            f"{file.label}: column {one.path!r} (our {one.name}) is missing: there is no field {error.args[0]!r}; "
            "look at the file's schema, and map it with `columns`"
        ) from None
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if steps or (one.name == ITEM_POINT and pa.types.is_struct(column.type)):
        return column_of([paths.descend(value, steps) for value in column.to_pylist()], one, file)
    if pa.types.is_nested(column.type):
        kind = "objects" if pa.types.is_struct(column.type) else "lists"
        raise not_scalar(one.name, paths.below(column.type, one.path), kind, file)
    plain = pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type)
    return Column(column.cast(pa.string()) if plain else column)


def _raw_of(batch: pa.RecordBatch) -> Any:
    def raw(place: int) -> dict[str, Any]:
        return {name: _told(batch.column(name)[place]) for name in batch.schema.names}

    return raw


def _told(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError):  # a year that Python does not know, or text that is none
        return str(value.cast(pa.int64())) if pa.types.is_temporal(value.type) else repr(value.as_buffer().to_pybytes())


def _explain(error: Exception, file: File, done: int) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, UnicodeError):
        return f"after row {done}: not the encoding it is read with: {text}; set `encoding`"
    damaged = isinstance(error, (EOFError, zlib.error, zipfile.BadZipFile)) or "footer" in text or "magic bytes" in text
    if damaged or "CRC" in text or "gzip" in text.lower():
        return f"after row {done}: truncated, damaged, or not {file.format}: {text}; fetch or write it again"
    if file.format == "parquet" and (place := _damaged_column(file)):
        return f"{place}: cannot be read: {text}; fetch or write it again"
    kind = "" if isinstance(error, (pa.ArrowException, OSError)) else f"{type(error).__name__}: "
    return f"after row {done}: cannot be read as {file.format}: {kind}{text}; fetch or write it again, or set `format`"


def _damaged_column(file: File) -> str:
    """Which row group and column of a Parquet file cannot be read; empty where that is not to be found out."""
    place = ""
    try:
        with open_file(file) as stream:
            parquet = pq.ParquetFile(stream)
            for group in range(parquet.num_row_groups):
                for name in parquet.schema_arrow.names:
                    place = f"row group {group}, column {name!r}"
                    parquet.read_row_group(group, columns=[name])
    except Exception:  # the one that is being explained, or another of a file that is packed and damaged
        return place
    return ""
