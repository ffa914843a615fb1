"""One vector per item."""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Float32, Int64
from lgsid_ray.artifacts.table import Table, conform, matrix
from lgsid_ray.errors import StorageError


class Embeddings(Table):
    """L2-normalised vectors in item order; every row's list has the model's dimension."""

    name: ClassVar = "embeddings"
    schema: ClassVar = pa.schema(
        [("item_index", pa.int64()), ("item_id", pa.string()), ("embedding", pa.list_(pa.float32()))]
    )

    def conform(self, table: pa.Table) -> pa.Table:
        """With a fixed list size, which Parquet readers turn into a matrix without a copy."""
        width = table.column("embedding").type.list_size
        fixed = self.schema.set(2, pa.field("embedding", pa.list_(pa.float32(), width)))
        return conform(table, fixed, self.name)

    def matrix(self, count: int) -> Float32:
        """(count, dimension), row i is item i: 4 bytes a number.

        Raises:
            StorageError: the table does not hold every item exactly once.
        """
        whole: Float32 | None = None
        seen = np.zeros(count, dtype=np.int64)
        for table in self.scan(["item_index", "embedding"]):
            found = vectors(table)
            if whole is None:
                whole = np.empty((count, found.shape[1]), dtype=np.float32)
            index = table.column("item_index").to_numpy()
            if len(index) and (index.min() < 0 or index.max() >= count):
                break
            whole[index] = found
            seen[index] += 1
        if whole is None or not (seen == 1).all():
            raise StorageError(
                f"{self.path} does not hold each of the catalogue's {count} items exactly once; "
                f"delete {self.folder.root} and run again"
            )
        return whole

    def of(self, index: Int64) -> Float32:
        """(m, dimension) vectors of the distinct items `index`, in that order."""
        return vectors(self.rows(index, ["embedding"]))


def vectors(table: pa.Table) -> Float32:
    """(n, dimension) of a table's column `embedding`."""
    return np.asarray(matrix(table.column("embedding")), dtype=np.float32)


def column(rows: Float32) -> pa.FixedSizeListArray:
    """A column `embedding` of (n, dimension) vectors."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).ravel()), rows.shape[1])
