"""One vector per item."""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Float32, Int64
from lgsid_ray.artifacts.table import Table, conform, matrix


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

    def of(self, index: Int64) -> Float32:
        """(m, dimension) vectors of the distinct items `index`, in that order."""
        return vectors(self.rows(index, ["embedding"]))


def vectors(table: pa.Table) -> Float32:
    """(n, dimension) of a table's column `embedding`."""
    return np.asarray(matrix(table.column("embedding")), dtype=np.float32)


def column(rows: Float32) -> pa.FixedSizeListArray:
    """A column `embedding` of (n, dimension) vectors."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).ravel()), rows.shape[1])
