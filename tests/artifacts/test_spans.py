"""Runs of items over tables whose parts do not coincide."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Embeddings, Items
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.artifacts.spans import spans
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir


def stages(folder: Path, items: list[int], embeddings: list[int]) -> tuple[StageDir, StageDir]:
    """Tables with parts of these lengths; item i is called `i<i>` and its embedding is (i, -i)."""
    catalogue, vectors = StageDir(f"{folder}/catalogue"), StageDir(f"{folder}/vectors")
    for table, lengths in ((Items(catalogue), items), (Embeddings(vectors), embeddings)):
        start = 0
        for part, length in enumerate(lengths):
            number = np.arange(start, start + length)
            columns = {"item_index": number, "item_id": [f"i{n}" for n in number]}
            fields = {field.name: pa.nulls(length, field.type) for field in table.schema} | columns
            fields["embedding"] = column(np.stack([number, -number], axis=1).astype(np.float32))
            table.write(pa.table(fields), f"part-{part:05d}.parquet")
            start += length
    return catalogue, vectors


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_every_item_is_in_one_span_beside_its_embedding(rows: int, tmp_path: Path) -> None:
    work = spans(*stages(tmp_path, [4, 5, 1], [2, 0, 7, 1]), rows)
    assert [len(span) for span in work[:-1]] == [rows] * (len(work) - 1)
    ids = [name for span in work for name in span.read_items(["item_id"]).column("item_id").to_pylist()]
    assert ids == [f"i{number}" for number in range(10)]
    found = np.concatenate([span.read_embeddings() for span in work])
    assert found.tolist() == [[number, -number] for number in range(10)]


def test_another_number_of_embeddings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"catalogue/items and .*vectors.* do not belong together: 9 items, 8"):
        spans(*stages(tmp_path, [9], [8]), 5)


def test_rows_out_of_order_are_refused_with_the_part(tmp_path: Path) -> None:
    catalogue, vectors = stages(tmp_path, [3, 3], [6])
    one, other = Items(catalogue).scan()
    Items(catalogue).write(other, "part-00000.parquet")
    Items(catalogue).write(one, "part-00001.parquet")
    (span,) = spans(catalogue, vectors, 10)
    with pytest.raises(StorageError, match=r"part-00000\.parquet: item_index is not 0\.\.n-1 in order; delete"):
        span.read_items(["item_id"])
