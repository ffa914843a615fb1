"""Items that look like what someone typed, by id or name; and those that mean it, by embeddings."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.artifacts import Embeddings, Items
from lgsid_ray.artifacts.embeddings import vectors

COLUMNS = ["item_id", "name", "category_1", "city"]


def alike(items: Items, text: str, count: int) -> list[dict[str, Any]]:
    """The `count` items whose item_id or name has most in common with `text`, in upper or lower case; read by part.

    What is compared are runs of three letters (trigrams), so that a slip of a letter, or a word left out, costs little.
    Items that have none in common with it are left out.
    """
    best = pa.Table.from_pylist(
        [], pa.schema([*(Items.schema.field(name) for name in COLUMNS), ("score", pa.float64())])
    )
    for table in items.scan(COLUMNS):
        score = np.maximum(likeness(table.column("item_id"), text), likeness(table.column("name"), text))
        here = table.append_column("score", pa.array(score)).filter(pa.array(score > 0))
        by = [("score", "descending"), ("item_id", "ascending")]
        best = pa.concat_tables([best, here.cast(best.schema)]).sort_by(by).slice(0, count)
    return best.drop_columns("score").to_pylist()


def nearest(vector: Float32, embeddings: Embeddings, count: int) -> tuple[Int64, Float64]:
    """(≤ count,) item_index of the largest inner products with a (d,) vector, best first, and these; read by part."""
    item, score = np.empty(0, dtype=np.int64), np.empty(0)
    for table in embeddings.scan(["item_index", "embedding"]):
        item = np.concatenate([item, table.column("item_index").to_numpy()])
        score = np.concatenate([score, vectors(table) @ vector])
        best = np.lexsort((item, -score))[:count]
        item, score = item[best], score[best]
    return item, score


def likeness(texts: pa.ChunkedArray, text: str) -> Float64:
    """(n,) share of the trigrams of both that are in both (Dice), from 0 to 1; 0 for a null."""
    lower, wanted = pc.utf8_lower(texts), set(_trigrams(text.lower()))
    hits = np.zeros(len(texts))
    for one in wanted:
        hits += pc.fill_null(pc.match_substring(lower, one), False).to_numpy(zero_copy_only=False)
    sizes = np.maximum(pc.fill_null(pc.utf8_length(texts), 0).to_numpy() - 2, 1)
    return np.minimum(2 * hits / (len(wanted) + sizes), 1.0)


def _trigrams(text: str) -> Iterator[str]:
    """What is shorter than three letters is one."""
    yield from (text[start : start + 3] for start in range(max(len(text) - 2, 1)))
