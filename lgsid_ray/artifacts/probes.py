"""Texts that no catalogue holds, by which embeddings are put to the test."""

from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.artifacts.table import Table, conform

SEARCH, DROPPED, RENAMED = "search", "dropped", "renamed"
"""What somebody types; an item's prompt without its place; an item's prompt with another district's name in it."""


class Probes(Table):
    """Which item stands behind each text."""

    name: ClassVar = "probes"
    schema: ClassVar = pa.schema(
        [
            ("number", pa.int64()),
            ("probe", pa.string()),
            ("item_index", pa.int64()),
            ("text", pa.string()),
            ("location", pa.string()),  # what the text says of where, alone; empty where it says nothing
        ]
    )
    key: ClassVar = "number"


class ProbeVectors(Table):
    """The embeddings of each text and of its location by one encoder."""

    name: ClassVar = "vectors"
    schema: ClassVar = pa.schema(
        [("number", pa.int64()), ("embedding", pa.list_(pa.float32())), ("location", pa.list_(pa.float32()))]
    )
    key: ClassVar = "number"

    def conform(self, table: pa.Table) -> pa.Table:
        """With fixed list sizes, which Parquet readers turn into matrices without a copy."""
        fixed = pa.list_(pa.float32(), table.column("embedding").type.list_size)
        schema = pa.schema([("number", pa.int64()), ("embedding", fixed), ("location", fixed)])
        return conform(table, schema, self.name)


def kinds(items: pa.Table) -> pa.ChunkedArray:
    """(n,) what each item is: the finer of its categories that is known; null where none is."""
    return pc.coalesce(items.column("category_2"), items.column("category_1"))
