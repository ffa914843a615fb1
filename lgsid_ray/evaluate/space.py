"""What is judged: the catalogue's labels and places beside its embeddings, and the queries drawn from it."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lgsid_ray.arrays import Bool, Float32, Float64, Int64, Text
from lgsid_ray.artifacts import Embeddings, ItemLocations, Items, Locations
from lgsid_ray.artifacts.embeddings import vectors
from lgsid_ray.artifacts.labels import LEVELS, path_codes
from lgsid_ray.draws import random_bits
from lgsid_ray.execution.stage import Inputs
from lgsid_ray.execution.storage import StageDir

GROUPS = ("all", "train", "held_city", "held_place", "held_random")
FEWEST, MOST, PAIRS = 200, 2000, 24_000_000
"""Queries a group, and pairs of a query and an item, where nobody says how many."""


@dataclass(frozen=True)
class Texts:
    """What the items say of where they are."""

    embedded: Float32
    """(t, d) reference embeddings of the distinct location texts alone."""
    of: Int64
    """(n,) which of them each item has; -1: none."""
    trained: Bool
    """(t,) which of them a training item has."""


@dataclass(frozen=True)
class Space:
    """Everything the numerics read; row i is item i."""

    reference: Float32
    """(n, d) L2-normalised, the frozen reference space E_ref."""
    labels: Int64
    """(n, 3) codes of the paths (province), (province, city), (province, city, district); -1: unknown."""
    xyz: Float64 | None
    """(n, 3) on the unit sphere; None in a catalogue without coordinates."""
    aligned: Float32 | None = None
    """(n, d) L2-normalised, the policy space E_π; None where nothing was aligned."""
    content: Float32 | None = None
    """(n, d') L2-normalised, of content-only prompts; None where they were not embedded."""
    texts: Texts | None = None
    """None where no training item has a location text."""
    fused: Float32 | None = None
    """(n, d) L2-normalised, reference embeddings with location texts put in; None where nothing was fused."""

    def __len__(self) -> int:
        return len(self.reference)

    @property
    def has_districts(self) -> bool:
        """Whether any item's district is known."""
        return bool((self.labels[:, -1] >= 0).any())


@dataclass(frozen=True)
class Queries:
    """The items that are looked up, and which of them stand for which group."""

    items: Int64
    """(q,) item_index, ascending."""
    groups: Mapping[str, Bool]
    """Group → (q,) membership."""


def read_space(inputs: Inputs) -> tuple[Space, Text]:
    """The space to judge and every item's split; aligned and content embeddings where the run has them.

    Memory: one float32 matrix per space, labels as strings while they are coded.
    """
    items = Items(inputs["catalogue"])
    table = items.read([*LEVELS, "split"])
    items.check(len(table))
    matrices = {
        name: Embeddings(inputs[stage]).matrix(len(table))
        for name, stage in (
            ("reference", "embed"),
            ("aligned", "embed_aligned"),
            ("fused", "fuse"),
            ("content", "embed_content"),
        )
        if stage in inputs
    }
    texts = _texts(inputs["embed_location"], len(table)) if "embed_location" in inputs else None
    return Space(labels=path_codes(table), xyz=items.xyz(), texts=texts, **matrices), np.asarray(
        table.column("split").to_pylist()
    )


def _texts(located: StageDir, count: int) -> Texts | None:
    locations = Locations(located)
    if not locations.exists():
        return None
    table = locations.read()
    trained = table.column("training_items").to_numpy() > 0
    return Texts(vectors(table), ItemLocations(located).texts(count), trained) if trained.any() else None


def affordable(sizes: Sequence[int]) -> int:
    """Most queries a group, FEWEST to MOST, that make at most PAIRS pairs with the items of groups of these sizes."""
    items = sum(sizes)
    costs = [-sum(min(count, size) for size in sizes) * items for count in range(MOST, FEWEST - 1, -1)]
    return max(MOST - bisect_left(costs, -PAIRS), FEWEST)


def draw_queries(split: Text, count: int | Literal["auto"], seed: int) -> Queries:
    """At most `count` query items of each group, by seeded rank; those of `all` are a uniform sample of all items.

    The first `count` of all items by rank are also among the first `count` of their split, so nothing is looked
    up for `all` alone.
    """
    if count == "auto":
        count = affordable([int((split == name).sum()) for name in GROUPS[1:]])
    order = np.argsort(random_bits(seed, "evaluate/query", np.arange(len(split))))
    chosen = {"all": order[:count]} | {name: order[split[order] == name][:count] for name in GROUPS[1:]}
    items = np.unique(np.concatenate(list(chosen.values())))
    return Queries(items, {name: np.isin(items, rows) for name, rows in chosen.items() if len(rows)})
