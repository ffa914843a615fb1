"""The tokens of all items as encoding leaves them: a part for every span, read by whoever works on it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import AnyInt, Int32, Int64
from lgsid_ray.artifacts.table import matrix
from lgsid_ray.execution.storage import SCRATCH, StageDir

ENCODING = f"{SCRATCH}/encoding"
"""What is left of an interrupted call; of the tokenizer that stands beside it."""
TOKENS, MOVED = f"{ENCODING}/tokens", f"{ENCODING}/moved"
"""Tokens as items chose them, a part per span; and, a folder per span, the last tokens of those that got others."""


@dataclass(frozen=True)
class Encoded:
    """Where the tokens of all items are. Picklable, and as small for many items as for few.

    Attributes:
        out: the stage's folder. starts: (spans + 1) the first item_index of each span; the last is the number of items.
    """

    out: StageDir
    starts: list[int]

    def __len__(self) -> int:
        """Number of spans."""
        return len(self.starts) - 1

    @property
    def items(self) -> int:
        """Number of items."""
        return self.starts[-1]

    def spans_of(self, item_index: AnyInt) -> Int64:
        """(n,) the span of every item."""
        return np.searchsorted(self.starts, item_index, side="right") - 1

    def read(self, span: int) -> tuple[pa.Table, Int32]:
        """item_index and item_id of a span's items, and (n, L) the tokens that they have in the end."""
        table = self.out.read_part(self.out.path(f"{TOKENS}/{part(span)}"))
        tokens: Int32 = matrix(table.column("tokens"))
        if self.out.exists(f"{MOVED}/{span}"):
            moved = self.out.read_table(f"{MOVED}/{span}")
            last = matrix(moved.column("tokens"))
            tokens = tokens.copy()
            tokens[moved.column("item_index").to_numpy() - self.starts[span], -last.shape[1] :] = last
        return table.select(["item_index", "item_id"]), tokens

    def chosen(self, span: int) -> Int32:
        """(n, L) the tokens that a span's items chose, whoever else chose them."""
        return matrix(self.out.read_part(self.out.path(f"{TOKENS}/{part(span)}"), ["tokens"]).column("tokens"))

    def tokens(self) -> Int32:
        """(n, L) of all items, in order: 4 bytes a token."""
        return np.concatenate([self.read(span)[1] for span in range(len(self))])


def part(number: int) -> str:
    """The name of a part."""
    return f"part-{number:05d}.parquet"
