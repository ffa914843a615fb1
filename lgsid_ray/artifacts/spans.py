"""Runs of items, cut alike whatever the parts: their rows of the catalogue beside their rows of the embeddings."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Float32
from lgsid_ray.artifacts.embeddings import Embeddings, vectors
from lgsid_ray.artifacts.items import Items
from lgsid_ray.artifacts.table import Table, apart
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir


@dataclass(frozen=True)
class Slice:
    """Some rows of a part."""

    part: str
    offset: int
    rows: int


@dataclass(frozen=True)
class Span:
    """The items [start, stop) and where their rows stand. Picklable, and read by whoever works on them."""

    items: Items
    embeddings: Embeddings
    start: int
    stop: int
    of_items: list[Slice]
    of_embeddings: list[Slice]

    def __len__(self) -> int:
        return self.stop - self.start

    def read_items(self, columns: list[str]) -> pa.Table:
        """Their rows of the catalogue.

        Raises:
            StorageError: the table's rows are not in the order of their numbers.
        """
        return self._rows(self.items, self.of_items, columns)

    def read_embeddings(self) -> Float32:
        """(n, d) their embeddings."""
        return vectors(self._rows(self.embeddings, self.of_embeddings, ["embedding"]))

    def _rows(self, table: Table, slices: list[Slice], columns: list[str]) -> pa.Table:
        wanted = list(dict.fromkeys(["item_index", *columns]))
        out = pa.concat_tables([table.part(s.part, wanted).slice(s.offset, s.rows) for s in slices])
        if not np.array_equal(out.column("item_index").to_numpy(), np.arange(self.start, self.stop)):
            root = table.folder.root
            raise StorageError(f"{slices[0].part}: item_index is not 0..n-1 in order; delete {root}, run again")
        return out


def spans(catalogue: StageDir, embedded: StageDir, rows: int) -> list[Span]:
    """All items, in order, `rows` at a time.

    Raises:
        StorageError: there are more or fewer embeddings than items.
    """
    items, embeddings = Items(catalogue), Embeddings(embedded)
    of_items, of_embeddings = (table.folder.count_parts(table.name) for table in (items, embeddings))
    count, held = (sum(rows for _, rows in parts) for parts in (of_items, of_embeddings))
    if held != count:
        raise apart(items, embeddings, f"{count} items, {held} embeddings")
    cuts = [(start, min(start + rows, count)) for start in range(0, count, rows)]
    return [Span(items, embeddings, *cut, _slices(of_items, *cut), _slices(of_embeddings, *cut)) for cut in cuts]


def _slices(parts: list[tuple[str, int]], start: int, stop: int) -> list[Slice]:
    """Where the rows [start, stop) of a table stand in its parts."""
    found, first = [], 0
    for part, count in parts:
        low, high = max(start - first, 0), min(stop - first, count)
        if low < high:
            found.append(Slice(part, low, high - low))
        first += count
    return found
