"""Embeddings of the mismatched lists of Eq 1."""

from typing import ClassVar

import pyarrow as pa

from lgsid_ray.artifacts.table import Table, conform


class Lists(Table):
    """[P_i, P_i^1 … P_i^K] of every anchor, embedded: `embedding` holds (K + 1) · dimension numbers, P_i first."""

    name: ClassVar = "lists"
    schema: ClassVar = pa.schema(
        [
            ("item_index", pa.int64()),
            ("negatives", pa.list_(pa.int64())),
            ("embedding", pa.list_(pa.float32())),
        ]
    )

    def conform(self, table: pa.Table) -> pa.Table:
        """With a fixed list size."""
        width = table.column("embedding").type.list_size
        fixed = self.schema.set(2, pa.field("embedding", pa.list_(pa.float32(), width)))
        return conform(table, fixed, self.name)
