"""Semantic IDs, and the way back from them to items."""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import AnyInt, Int64
from lgsid_ray.artifacts.table import Table, matrix
from lgsid_ray.errors import StorageError


class Sids(Table):
    """Every item's tokens, in item order."""

    name: ClassVar = "sids.parquet"
    schema: ClassVar = pa.schema(
        [
            ("item_index", pa.int64()),
            ("item_id", pa.string()),
            ("tokens", pa.list_(pa.int32())),  # one per level
            ("collision", pa.int32()),  # 0-based rank among the items that share the tokens
            ("sid", pa.string()),  # <a_12><b_3><c_7>, with <x_1> behind it where the collision rank disambiguates
        ]
    )

    def tokens(self, count: int) -> Int64:
        """(count, levels), row i is item i: 8 bytes a token.

        Raises:
            StorageError: the table does not hold every item exactly once.
        """
        return self.tokens_and_ranks(count)[0]

    def tokens_and_ranks(self, count: int) -> tuple[Int64, Int64]:
        """(count, levels) tokens and (count,) collision ranks, row i is item i."""
        table = self.read(["item_index", "tokens", "collision"])
        index = table.column("item_index").to_numpy()
        order = np.argsort(index, kind="stable")
        if len(index) != count or not np.array_equal(index[order], np.arange(count)):
            raise StorageError(
                f"{self.path} holds {len(index)} SIDs that are not one for each of {count} items; "
                f"delete {self.folder.root} and run again"
            )
        tokens = matrix(table.column("tokens")).astype(np.int64)
        return tokens[order], table.column("collision").to_numpy().astype(np.int64)[order]


def unique_tokens(tokens: AnyInt, ranks: AnyInt) -> Int64:
    """(n, L), or (n, L + 1) where any two of the n items collide: their ranks (n,) then stand behind the tokens."""
    return (np.column_stack([tokens, ranks]) if ranks.any() else tokens).astype(np.int64, copy=False)


class Inverse(Table):
    """SID → items, ascending by tokens."""

    name: ClassVar = "inverse.parquet"
    schema: ClassVar = pa.schema(
        [
            ("tokens", pa.list_(pa.int32())),
            ("item_index", pa.list_(pa.int64())),
            ("item_id", pa.list_(pa.string())),
        ]
    )
