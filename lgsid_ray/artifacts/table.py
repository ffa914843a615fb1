"""What every table has in common: a name, a schema, parts, and how they are read and written.

Tables are folders of Parquet parts (or one file) in a stage's folder. `item_index` numbers the accepted items
0..n-1 without gaps, in the order of the parts and of the rows within them; `item_id` is the user's own key.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Int64
from lgsid_ray.errors import InputError, StorageError
from lgsid_ray.execution.storage import StageDir


@dataclass(frozen=True)
class Table:
    """A table in the folder of the stage that wrote it. Picklable, so that it travels to workers."""

    folder: StageDir

    name: ClassVar[str]
    schema: ClassVar[pa.Schema]
    key: ClassVar[str] = "item_index"
    """The column that `rows` goes by."""

    @property
    def path(self) -> str:
        """Where it lies, for messages."""
        return self.folder.path(self.name)

    def exists(self) -> bool:
        """Whether anything of it was written."""
        return self.folder.exists(self.name)

    def parts(self) -> list[str]:
        """Its parts in order, to hand out to tasks; `part` reads one."""
        return self.folder.parts(self.name)

    def part(self, part: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One part, by a path from `parts`."""
        return self.folder.read_part(part, None if columns is None else list(columns))

    def scan(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Part by part, in order: memory stays that of one part."""
        for part in self.parts():
            yield self.part(part, columns)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The whole table in order. Only for what fits in memory by design (say so where you call it)."""
        return pa.concat_tables(list(self.scan(columns)))

    def among(self, index: Int64, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Part by part, in order, the rows whose key is in `index`; `columns` must hold the key."""
        for table in self.scan(columns):
            yield table.filter(pa.array(np.isin(table.column(self.key).to_numpy(), index)))

    def rows(self, index: Int64, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of the distinct keys `index`, in that order, read part by part.

        Raises:
            StorageError: one of them is not in the table, or is there twice.
        """
        wanted = None if columns is None else list(dict.fromkeys([self.key, *columns]))
        found = pa.concat_tables(list(self.among(index, wanted)))
        keys = found.column(self.key).to_numpy()
        order = np.argsort(keys, kind="stable")
        if len(keys) != len(index) or not np.array_equal(keys[order], np.sort(index)):
            raise StorageError(
                f"{self.path} does not hold each of {len(index)} wanted {self.key} exactly once, it has {len(keys)} "
                f"rows of them; delete {self.folder.root} and run again"
            )
        place = np.empty(len(index), dtype=np.int64)
        place[np.argsort(index, kind="stable")] = order
        out = found.take(pa.array(place))
        return out if columns is None else out.select(list(columns))

    def count(self) -> int:
        """Number of rows, from the footers."""
        return sum(rows for _, rows in self.folder.count_parts(self.name))

    def check(self, count: int) -> None:
        """That the keys are 0..count-1, ascending over the parts.

        Raises:
            StorageError: they are not; path and remedy are named.
        """
        done = 0
        for table in self.scan([self.key]):
            keys = table.column(self.key).to_numpy()
            if not np.array_equal(keys, np.arange(done, done + len(keys))):
                break
            done += len(keys)
        else:
            if done == count:
                return
        raise StorageError(
            f"{self.path} does not hold each of the catalogue's {count} items exactly once and in order; "
            f"delete {self.folder.root} and run again"
        )

    def write(self, table: pa.Table, part: str | None = None) -> None:
        """Write one part, or (no part) the whole table as one file, with exactly the schema's columns.

        Raises:
            InputError: a column is missing or cannot be converted; the table and column are named.
        """
        name = self.name if part is None else f"{self.name}/{part}"
        self.folder.write_table(name, self.conform(table))

    def conform(self, table: pa.Table) -> pa.Table:
        """`table` with exactly the schema's columns, in its order and types."""
        return conform(table, self.schema, self.name)

    def remove(self) -> None:
        """Delete what stands of it."""
        self.folder.remove(self.name)


def conform(table: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    """`table` with exactly the schema's columns, in its order and types.

    Raises:
        InputError: a column is missing or cannot be converted; the table and column are named.
    """
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            raise InputError(f"table {name}: column {field.name!r} is missing; it has {table.column_names}")
        try:
            columns.append(table.column(field.name).cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(f"table {name}: column {field.name!r} is not {field.type}: {error}") from None
    return pa.Table.from_arrays(columns, schema=schema)


def apart(one: Table, other: Table, difference: str) -> StorageError:
    """The error for two tables that do not belong together; `other` is the later one, to be made again."""
    return StorageError(
        f"{one.path} and {other.path} do not belong together: {difference}; delete {other.folder.root} and run again"
    )


def lists(rows: np.ndarray, kind: pa.DataType) -> pa.ListArray:
    """A column of lists out of a matrix (n, width)."""
    offsets = pa.array(np.arange(0, rows.size + 1, max(rows.shape[1], 1)), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(rows).ravel(), kind))


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """(n, width) entries of a column of lists that are all of one length; no rows: the width of the type, or 0."""
    flat = column.combine_chunks().flatten()
    fixed = column.type.list_size if pa.types.is_fixed_size_list(column.type) else 0
    width = len(flat) // len(column) if len(column) else fixed
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(column), width)
