"""What is judged: a catalogue's labels, places and embeddings, these read part by part; and queries drawn from it."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from lgsid_ray.arrays import Bool, Float32, Float64, Int64, Text
from lgsid_ray.artifacts import ItemLocations, Items, Locations
from lgsid_ray.artifacts.embeddings import vectors
from lgsid_ray.artifacts.fusion import Fusion
from lgsid_ray.artifacts.labels import LEVELS, path_codes
from lgsid_ray.artifacts.spans import Span, spans
from lgsid_ray.draws import random_bits
from lgsid_ray.execution.stage import Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.execution.stream import summed

GROUPS = ("all", "train", "held_city", "held_place", "held_random")
FEWEST, MOST, PAIRS = 200, 2000, 24_000_000
"""Queries a group, and pairs of a query and an item, where nobody says how many."""
PART_ROWS = 32_768
"""Items that are in memory at once, or in a task's."""
SPACES = {"reference": "embed", "fused": "fuse", "aligned": "embed_aligned", "content": "embed_content"}
"""Embeddings, and the stage that writes them."""
JUDGED = {"origin": "reference", "fused": "fused", "aligned": "aligned"}
"""Those that are judged side by side, by the names that tables give them."""
T = TypeVar("T")


@dataclass(frozen=True)
class Space:
    """Some items beside one another; row i of every array is the item `index[i]`."""

    index: Int64
    """(n,) item_index, ascending."""
    labels: Int64
    """(n, 3) codes of the paths (province), (province, city), (province, city, district); -1: unknown."""
    reference: Float32
    """(n, d) L2-normalised, the frozen reference space E_ref."""
    xyz: Float64 | None = None
    """(n, 3) on the unit sphere; None in a catalogue without coordinates."""
    aligned: Float32 | None = None
    """(n, d) L2-normalised, the policy space E_π; None where nothing was aligned."""
    content: Float32 | None = None
    """(n, d') L2-normalised, of content-only prompts; None where they were not embedded."""
    said: Int64 | None = None
    """(n,) which of the catalogue's location texts each item has; -1: none. None where nobody says where items are."""
    fused: Float32 | None = None
    """(n, d) L2-normalised, reference embeddings with location texts put in; None where nothing was fused."""

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, where: Int64 | Bool | slice) -> "Space":
        """Some of them."""
        kept: dict[str, Any] = {name: None if part is None else part[where] for name, part in vars(self).items()}
        return Space(**kept)

    def by(self, name: str) -> Float32:
        """(n, d) the embeddings that tables call by this name (see JUDGED)."""
        found: Float32 | None = getattr(self, JUDGED[name])
        assert found is not None, f"there are no embeddings {name}"
        return found


@dataclass(frozen=True)
class Texts:
    """The distinct location texts of a catalogue."""

    embedded: Float32
    """(t, d) reference embeddings of the texts alone."""
    trained: Bool
    """(t,) which of them a training item has."""

    @cached_property
    def white(self) -> Float32:
        """(t, d) directions, whitened as those of training items."""
        return Fusion.fitted(self.embedded[self.trained], 0.0).directions(self.embedded)

    @cached_property
    def white_all(self) -> Float32:
        """(t, d) directions, whitened as all of them: no label is read, but what is held out is known."""
        return Fusion.fitted(self.embedded, 0.0).directions(self.embedded)


class Part(Protocol):
    """A run of a catalogue's items; picklable."""

    @property
    def index(self) -> Int64:
        """(n,) item_index, ascending."""

    def read(self, names: Sequence[str] = tuple(SPACES)) -> Space:
        """Its items, with the reference embeddings and those of these `names` that there are (see SPACES)."""


@dataclass(frozen=True)
class Corpus:
    """All items of a catalogue: what is searched, whatever queries are drawn from it.

    In memory are 56 bytes an item, of labels, places and texts; embeddings stay where they are stored.
    """

    labels: Int64
    """(n, 3), see Space."""
    xyz: Float64 | None
    """(n, 3), see Space."""
    texts: Texts | None
    """None where no training item has a location text."""
    spaces: tuple[str, ...]
    """Names of the embeddings there are, of SPACES."""
    parts: Sequence[Part]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def judged(self) -> list[str]:
        """The embeddings that are judged side by side, of JUDGED."""
        return [name for name, space in JUDGED.items() if space in self.spaces]

    @property
    def has_districts(self) -> bool:
        """Whether any item's district is known."""
        return bool((self.labels[:, -1] >= 0).any())

    def of(self, index: Int64, names: Sequence[str] = tuple(SPACES)) -> Space:
        """The items `index`, ascending and distinct, with embeddings of these names; a part at a time is read."""
        found: list[Space] = []
        for part in self.parts:
            mine = np.searchsorted(part.index, index[np.isin(index, part.index, assume_unique=True)])
            if len(mine) or not found:
                found.append(part.read(names).rows(mine))
        columns = zip(*(vars(some).values() for some in found), strict=True)
        whole: list[Any] = [None if parts[0] is None else np.concatenate(parts) for parts in columns]
        return Space(*whole)

    def fold(self, ask: Callable[..., T], *shared: Any) -> T:
        """What `ask(items, *shared)` says of each part's items, added up: of many by tasks, of one here and now."""
        if len(self.parts) == 1:
            return ask(self.parts[0].read(), *shared)
        return summed(_asked, self.parts, ask, *shared)


def _asked(part: Part, ask: Callable[..., T], *shared: Any) -> T:
    return ask(part.read(), *shared)


@dataclass(frozen=True)
class StoredPart:
    """A run of items as the stages of a run have written them."""

    labels: Int64
    xyz: Float64 | None
    said: Int64 | None
    spans: Mapping[str, Span]
    """By the name of their embeddings."""

    @property
    def index(self) -> Int64:
        """See Part."""
        span = self.spans["reference"]
        return np.arange(span.start, span.stop)

    def read(self, names: Sequence[str] = tuple(SPACES)) -> Space:
        """See Part."""
        wanted = {"reference", *names} & self.spans.keys()
        # Copied: Arrow's memory is read-only, and torch knows no such tensors.
        found = {name: np.array(self.spans[name].read_embeddings()) for name in SPACES if name in wanted}
        return Space(self.index, self.labels, xyz=self.xyz, said=self.said, **found)


@dataclass(frozen=True)
class Queries:
    """The items that are looked up, and which of them stand for which group."""

    items: Int64
    """(q,) item_index, ascending."""
    groups: Mapping[str, Bool]
    """Group → (q,) membership."""


def read_corpus(inputs: Inputs) -> tuple[Corpus, Text]:
    """The items to judge and the split of each; aligned, fused and content embeddings where the run has them.

    Labels are strings in memory while they are coded.
    """
    items = Items(inputs["catalogue"])
    table = items.read([*LEVELS, "split"])
    items.check(len(table))
    labels, xyz = path_codes(table), items.xyz()
    texts, said = _texts(inputs["embed_location"], len(table)) if "embed_location" in inputs else (None, None)
    cut = {
        name: spans(inputs["catalogue"], inputs[stage], PART_ROWS) for name, stage in SPACES.items() if stage in inputs
    }
    parts = []
    for number, span in enumerate(cut["reference"]):
        rows, beside = slice(span.start, span.stop), {name: found[number] for name, found in cut.items()}
        here, told = xyz if xyz is None else xyz[rows], said if said is None else said[rows]
        parts.append(StoredPart(labels[rows], here, told, beside))
    split = table.column("split").combine_chunks().dictionary_encode()
    names = np.asarray(split.dictionary.to_pylist())
    return Corpus(labels, xyz, texts, tuple(cut), parts), names[split.indices.to_numpy()]


def _texts(located: StageDir, count: int) -> tuple[Texts | None, Int64 | None]:
    locations = Locations(located)
    if not locations.exists():
        return None, None
    table = locations.read()
    trained = table.column("training_items").to_numpy() > 0
    return (Texts(vectors(table), trained), ItemLocations(located).texts(count)) if trained.any() else (None, None)


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
