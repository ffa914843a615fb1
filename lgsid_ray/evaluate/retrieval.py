"""Exact retrieval, self excluded, part by part of a catalogue; and what the retrieved items are worth (P/C/T@K).

Every item is compared with every query: by its cosine in the reference space, from which arms go on (frontiers.py), or
by another score. A part gives the best k of its own items, and of two parts' best the best are kept.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.evaluate.space import Space

BLOCK = 1 << 23
"""Scores held at once."""
NOBODY = -1
"""The index of an item that is not there: where fewer were to be found than asked for."""
GROUPED = 16
"""Columns of a group, in which the largest score is looked for first."""

Best = tuple[Int64, Float32]
"""(b, k) rows of a part and their scores, best first."""
Finder = Callable[[slice, Tensor], Iterator[Best]]
"""(some queries, their (b, n) cosines with a part's items, -inf with themselves) → the best at every knob."""
Maker = Callable[[Space, Space], Finder]
"""(a part's items, all queries) → how to find the one for the other."""


@dataclass(frozen=True)
class Found:
    """What q queries retrieve at every position of a knob: k items, best first; of equals the lower index first."""

    item: Int64
    """(knobs, q, k) item_index, NOBODY behind the last there is."""
    score: Float32
    """(knobs, q, k)"""
    similarity: Float32
    """(knobs, q, k) cosine in the reference space, whatever they were ranked by."""
    content: Float32 | None
    """(knobs, q, k) cosine of content embeddings; None where there are none."""

    def __add__(self, other: "Found") -> "Found":
        """The best of what either found, each among items of its own."""

        def both(one: np.ndarray, another: np.ndarray) -> np.ndarray:
            return np.take_along_axis(np.concatenate([one, another], axis=2), order, axis=2)

        score = np.concatenate([self.score, other.score], axis=2)
        order = np.lexsort((np.concatenate([self.item, other.item], axis=2), -score), axis=2)
        order = order[:, :, : self.item.shape[2]]
        content = None if self.content is None or other.content is None else both(self.content, other.content)
        return Found(
            both(self.item, other.item),
            both(self.score, other.score),
            both(self.similarity, other.similarity),
            content,
        )


@dataclass(frozen=True)
class Answers:
    """What a part, or several, have for everything that was asked, by its name."""

    found: Mapping[str, Found]

    def __add__(self, other: "Answers") -> "Answers":
        return Answers({name: found + other.found[name] for name, found in self.found.items()})


def answer(items: Space, asked: Space, makers: Mapping[str, Maker], sizes: Mapping[str, int]) -> Answers:
    """What is found among the items of a part, by name of what is asked.

    Args:
        asked: the queries; what an item finds is not itself. makers: how. sizes: how many of each.
    """
    finders = {name: make(items, asked) for name, make in makers.items()}
    found: dict[str, list[Found]] = {name: [] for name in finders}
    columns = torch.from_numpy(items.reference).T
    content = None
    if items.content is not None and asked.content is not None:
        content = torch.from_numpy(asked.content), torch.from_numpy(items.content).T
    step = max(1, BLOCK // len(items))
    own, there = np.searchsorted(items.index, asked.index), np.isin(asked.index, items.index)
    for begin in range(0, len(asked), step):
        rows = slice(begin, min(begin + step, len(asked)))
        mine = torch.from_numpy(np.flatnonzero(there[rows]))
        itself = mine, torch.from_numpy(own[rows])[mine]
        cosines = torch.from_numpy(asked.reference[rows]) @ columns
        alike = None if content is None else content[0][rows] @ content[1]
        cosines[itself] = -torch.inf
        for name, find in finders.items():
            best = [_told(*one, sizes[name], items.index, cosines, alike) for one in find(rows, cosines)]
            found[name].append(_joined(best, axis=0))
    return Answers({name: _joined(blocks, axis=1) for name, blocks in found.items()})


def _told(rows: Int64, score: Float32, k: int, index: Int64, cosines: Tensor, alike: Tensor | None) -> Found:
    """The best of one knob, (1, b, k)."""
    missing = k - rows.shape[1]
    chosen = torch.from_numpy(rows)

    def wide(values: np.ndarray, nothing: float) -> np.ndarray:
        return np.pad(values, ((0, 0), (0, missing)), constant_values=nothing)[None]

    return Found(
        wide(np.where(np.isneginf(score), NOBODY, index[rows]), NOBODY),
        wide(score, -np.inf),
        wide(cosines.gather(1, chosen).numpy(), -np.inf),
        None if alike is None else wide(alike.gather(1, chosen).numpy(), -np.inf),
    )


def _joined(parts: Sequence[Found], axis: int) -> Found:
    fields = zip(*(vars(part).values() for part in parts), strict=True)
    whole: list[Any] = [None if some[0] is None else np.concatenate(some, axis=axis) for some in fields]
    return Found(*whole)


def by_cosine(items: Space, asked: Space, space: str, k: int) -> Finder:
    """The nearest in a space of JUDGED. A Maker, but for `space` and `k`."""
    vectors, queries = torch.from_numpy(items.by(space)).T, torch.from_numpy(asked.by(space))

    def find(rows: slice, cosines: Tensor) -> Iterator[Best]:
        scores = cosines if space == "origin" else apart(queries[rows] @ vectors, cosines)
        yield top_k(scores, k)

    return find


def apart(scores: Tensor, cosines: Tensor) -> Tensor:
    """Scores, in their place, with -inf where a query meets itself."""
    return scores.masked_fill_(cosines == -torch.inf, -torch.inf)


def top_k(scores: Tensor, k: int) -> Best:
    """Columns and values of the k largest scores of each row, best first; equal scores: the lower column first.

    Of many columns, every so many are a group, and the best lie in the k groups of the largest maxima: to take these,
    and to look at what is in them, costs a fraction of a selection among all. A row whose k-th group is as good as the
    next is looked at whole.
    """
    groups = scores.shape[1] // GROUPED
    if groups <= k:
        return _top_k(scores, k)
    whole = groups * GROUPED
    best, where = torch.topk(scores[:, :whole].unflatten(1, (GROUPED, groups)).amax(1), k + 1)
    chosen = np.sort(where[:, :k].numpy(), axis=1)
    columns = (np.arange(0, whole, groups)[:, None] + chosen[:, None, :]).reshape(len(scores), -1)
    rest = np.broadcast_to(np.arange(whole, scores.shape[1]), (len(scores), scores.shape[1] - whole))
    columns = np.concatenate([columns, rest], axis=1)
    among, values = _top_k(scores.gather(1, torch.from_numpy(columns)), k)
    found = np.take_along_axis(columns, among, axis=1)
    tied = (best[:, k - 1] == best[:, k]).nonzero().flatten()
    if len(tied):
        found[tied], values[tied] = _top_k(scores[tied], k)
    return found, values


def _top_k(scores: Tensor, k: int) -> Best:
    """`top_k` by a selection among all."""
    best, where = torch.topk(scores, min(k + 1, scores.shape[1]))
    values, index = best[:, :k], where[:, :k]
    last = values[:, -1:]
    # topk breaks a tie for the last places as it likes; rows in which the next value is as large need a second look.
    tied = (best[:, k:] == last).any(1).nonzero().flatten()
    if len(tied):
        equal, above = scores[tied] == last[tied], values[tied] > last[tied]
        first = equal & (equal.cumsum(1, dtype=torch.int32) <= k - above.sum(1, keepdim=True))
        # topk's values descend, so that those above the last stand in front of it.
        chosen = index[tied]
        chosen[~above] = first.nonzero()[:, 1]
        index[tied] = chosen
    columns, sizes = index.numpy(), values.numpy()
    order = np.lexsort((columns, -sizes), axis=1)
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(sizes, order, axis=1)


def judge(labels: Int64, queries: Int64, found: Found, ks: Sequence[int]) -> list[list[dict[str, Float64]]]:
    """Per knob and K what queries are worth, (q,): `similarity`, `content_similarity`, `province`, `city`, `district`.

    Similarity@K is measured in the frozen reference space wherever the items were retrieved. The three shares are
    P@K, C@K and T@K; NaN where the query's own label is unknown. `found` holds at least max(ks) items a query.

    Args:
        labels: (n, 3) of all items. queries: (q,) item_index.
    """
    told = []
    for position, items in enumerate(found.item):
        hits = {"similarity": found.similarity[position].astype(np.float64)}
        if found.content is not None:
            hits["content_similarity"] = found.content[position].astype(np.float64)
        for level, name in enumerate(LEVELS):
            own = labels[queries, level][:, None]
            hits[name] = np.where(own < 0, np.nan, labels[items, level] == own)
        told.append([{name: values[:, :k].mean(axis=1) for name, values in hits.items()} for k in ks])
    return told


def mean(values: Float64) -> float | None:
    """Mean of the known values; None where there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
