"""What is judged: the catalogue's labels and places beside its embeddings, and the queries drawn from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Bool, Float32, Float64, Int64, Text
from lgsid_ray.draws import random_bits

LEVELS = ("province", "city", "district")
GROUPS = ("all", "train", "held_place", "held_random")


@dataclass(frozen=True)
class Space:
    """Everything the numerics read; row i is item i."""

    reference: Float32
    """(n, d) L2-normalised, the frozen reference space E_ref."""
    labels: Int64
    """(n, 3) codes of the paths (province), (province, city), (province, city, district); -1: unknown."""
    xyz: Float64
    """(n, 3) on the unit sphere."""
    aligned: Float32 | None = None
    """(n, d) L2-normalised, the policy space E_π; None where nothing was aligned."""
    content: Float32 | None = None
    """(n, d') L2-normalised, of content-only prompts; None where they were not embedded."""

    def __len__(self) -> int:
        return len(self.reference)


@dataclass(frozen=True)
class Queries:
    """The items that are looked up, and which of them stand for which group."""

    items: Int64
    """(q,) item_index, ascending."""
    groups: Mapping[str, Bool]
    """Group → (q,) membership."""


def path_codes(columns: Sequence[pa.ChunkedArray]) -> Int64:
    """Codes of label paths, (n, levels): names recur (a Springfield in many states), paths do not.

    A null anywhere in the path makes it unknown, -1, which equals nothing.
    """
    codes: list[Int64] = []
    above = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        own = column.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy().astype(np.int64)
        unknown = (own < 0) | (above < 0)
        pair = np.where(unknown, -1, above * (own.max(initial=0) + 1) + own)
        names, above = np.unique(pair, return_inverse=True)
        above = np.where(unknown, -1, above - int(len(names) > 0 and names[0] < 0))
        codes.append(above)
    return np.stack(codes, axis=1)


def draw_queries(split: Text, count: int, seed: int) -> Queries:
    """At most `count` query items of each group, by seeded rank; those of `all` are a uniform sample of all items.

    The first `count` of all items by rank are also among the first `count` of their split, so nothing is looked
    up for `all` alone.
    """
    order = np.argsort(random_bits(seed, "evaluate/query", np.arange(len(split))))
    chosen = {"all": order[:count]} | {name: order[split[order] == name][:count] for name in GROUPS[1:]}
    items = np.unique(np.concatenate(list(chosen.values())))
    return Queries(items, {name: np.isin(items, rows) for name, rows in chosen.items() if len(rows)})
