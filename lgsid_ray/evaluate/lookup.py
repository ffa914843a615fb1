"""Items whose id or name looks like what someone typed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Float64
from lgsid_ray.artifacts import Items

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
