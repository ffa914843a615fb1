"""What the catalogue's items say of where they are, each text once, and which of the texts each item has."""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts.table import Table, conform


class LocationTexts(Table):
    """The distinct location texts of the prompts, ascending; an item without one is in none."""

    name: ClassVar = "texts.parquet"
    schema: ClassVar = pa.schema([("text", pa.string()), ("items", pa.int64()), ("training_items", pa.int64())])
    key: ClassVar = "text"


class Locations(Table):
    """The same, with the reference model's embeddings of these texts alone."""

    name: ClassVar = "locations"
    schema: ClassVar = pa.schema([*LocationTexts.schema, ("embedding", pa.list_(pa.float32()))])
    key: ClassVar = "text"

    def conform(self, table: pa.Table) -> pa.Table:
        """With a fixed list size, which Parquet readers turn into a matrix without a copy."""
        kind = pa.list_(pa.float32(), table.column("embedding").type.list_size)
        return conform(table, self.schema.set(3, pa.field("embedding", kind)), self.name)


class ItemLocations(Table):
    """Which of the texts every item has, in item order."""

    name: ClassVar = "item_locations"
    schema: ClassVar = pa.schema([("item_index", pa.int64()), ("text", pa.int64())])  # null: none

    def texts(self, count: int) -> Int64:
        """(count,) places in `LocationTexts`, row i is item i; -1: none. 8 bytes an item.

        Raises:
            StorageError: the table does not hold every item exactly once and in order.
        """
        self.check(count)
        found = self.read(["text"]).column("text").fill_null(-1)
        return np.asarray(found.to_numpy(), dtype=np.int64)
