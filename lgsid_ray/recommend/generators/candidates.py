"""What a history suggests: candidates for the next item, and what is known of each, for a model to weigh.

Counts of what other users did would flatter a training target, which is itself among what was counted: the model would
learn to trust them more than they deserve. So users are dealt into folds, and for a training target those of its own
user's fold do not count. Validation and test targets are in no count, and see all of them.
"""

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from lgsid_ray.arrays import AnyInt, Bool, Float64, Int32, Int64
from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.recommend.folds import FOLDS, folds, without_each
from lgsid_ray.recommend.generators.sequences import Sequences
from lgsid_ray.recommend.log import TRAIN

SUCCESSORS = 32
"""The items that most often followed the last one."""
COMPANIONS, LATEST, WINDOW = 12, 5, 5
"""The items that most often stood up to WINDOW events from one, for each of the LATEST of a history."""
NEAR, HOME = 64, 48
"""The items nearest to the last place, and to the place of the history that is nearest to its middle."""
POPULAR = 64
"""The most visited items of all."""
SOURCES = ("history", "successor", "companion", "popular", "near", "home")
ABOUT = (
    "count",  # log visits in the history; of successors and companions, log share of what is counted for their item
    "standing",  # log age of the latest visit, in events; of successors and companions, log count
    "gap",  # log hours from the latest visit to the last event; of companions, log age of the item they stood by
    "km",  # log(1 + km) from the last place
    "close",  # log(.05 + km) from the last place
    "middle",  # log(1 + km) from the middle of the history
    "popular",  # log visits
    "visited",  # log times that the history holds it, whatever suggests it
    "followed",  # log times that it followed the last item in the history
)
CONTEXT = ("events", "distinct", "pause", "returns", "popular", "left")
_CLOSE_KM = 0.05
_RARE = 0.01  # stands for a count of 0 where its logarithm is asked for
_HOUR = 3600.0

Field = TypeVar("Field")


class Suggested(NamedTuple, Generic[Field]):
    """Candidates of b histories: arrays where they are made, tensors where they are weighed."""

    item: Field
    """(b, m) item_index, -1 where there is none; an item may be there several times."""
    source: Field
    """(m,) number of each column's source in SOURCES."""
    about: Field
    """(b, m, len(ABOUT)) float32."""
    context: Field
    """(b, len(CONTEXT)) float32: log events of the history, share of its window that is distinct, log hours between its
    last two events, log visits to the last item in it, and by all, and log times that anything followed that item."""


class Links(NamedTuple):
    """Where items lead to, by counts: without the users of each fold in turn, and of all users."""

    target: Int32
    """(FOLDS + 1, n, w) most frequent first, -1 behind their end."""
    times: Int32
    """(FOLDS + 1, n, w) how often."""
    total: Int32
    """(FOLDS + 1, n) of all targets of an item, also those beyond w."""

    @classmethod
    def of(cls, steps: Iterable[tuple[Int64, Int64, Int64]], items: int, width: int) -> "Links":
        """From (source, target, fold of the user) of whatever is counted, a part of it at a time."""
        folds = [sparse.csr_matrix((items, items), dtype=np.int32) for _ in range(FOLDS)]
        for source, target, fold in steps:
            for number in range(FOLDS):
                mine = fold == number
                pairs = (np.ones(mine.sum(), dtype=np.int32), (source[mine], target[mine]))
                folds[number] = folds[number] + sparse.csr_matrix(pairs, shape=(items, items))
        whole = sum(folds[1:], folds[0])
        # Which targets are named is itself told without the fold: among many that are equally rare, the pair that a
        # training target adds to would else stand out.
        kept = [_most(sparse.csr_matrix(counts), width) for counts in (*(whole - fold for fold in folds), whole)]
        return cls(*(np.stack(each) for each in zip(*kept, strict=True)))


class Candidates:
    """What histories suggest, by counts of the training events, coordinates, and the histories themselves.

    Some 2 KB an item.

    Args:
        items: how many there are.
        xyz: (items, 3) unit-sphere points of the items; without them nothing is near, and all distances are 0.
        length: latest events of a history that are looked at.
    """

    def __init__(self, sequences: Sequences, items: int, xyz: Float64 | None, length: int, seed: int) -> None:
        self._sequences, self._xyz, self._length = sequences, xyz, length
        self._fold = folds(seed, "generate/folds", sequences.user)
        train = np.flatnonzero(sequences.split == TRAIN)
        item, fold = sequences.item, self._fold
        visits = np.bincount(fold[train] * items + item[train], minlength=items * FOLDS).reshape(FOLDS, items)
        self._popular = without_each(visits)
        self._favourites = np.argsort(-self._popular, axis=1, kind="stable")[:, :POPULAR]
        follows = ((item[earlier], item[later], fold[later]) for earlier, later in sequences.apart(1))
        self._successors = Links.of(follows, items, SUCCESSORS)
        together = (
            (item[one], item[other], fold[one])
            for earlier, later in sequences.apart(WINDOW)
            for one, other in ((earlier, later), (later, earlier))
        )
        self._companions = Links.of(together, items, COMPANIONS)
        self._row = np.zeros(items, dtype=np.int32)
        self._near: Int32 | None = None
        if xyz is not None:
            places = np.unique(item)  # all that a history can hold
            self._row[places] = np.arange(len(places))
            nearest = cKDTree(xyz).query(xyz[places], k=np.arange(1, min(max(NEAR, HOME), items) + 1))[1]
            self._near = nearest.astype(np.int32)

    def suggest(self, rows: Int64, discovery: bool) -> Suggested[np.ndarray]:
        """For the targets at the positions `rows`.

        Args:
            discovery: suggest nothing that the history holds.
        """
        sequences = self._sequences
        fold = np.where(sequences.split[rows] == TRAIN, self._fold[rows], FOLDS)
        history = sequences.histories(rows, self._length)
        history = history[:, : int((history >= 0).sum(axis=1).max(initial=1))]
        known = history >= 0
        history = np.where(known, history, 0)
        last, age = history[:, 0], np.arange(history.shape[1])
        when = sequences.time[np.where(known, rows[:, None] - 1 - age, rows[:, None] - 1)]
        hours = np.log1p((when[:, :1] - when) / _HOUR)
        same = (history[:, :, None] == history[:, None, :]) & known[:, None, :]
        times, latest = same.sum(axis=2), known & ~np.tril(same, -1).any(axis=2)

        own = [np.log1p(times), np.broadcast_to(np.log1p(age), history.shape), hours]
        parts = [
            _part("history", history, latest, own),
            _linked("successor", self._successors, history[:, :1], known[:, :1], fold),
            _linked("companion", self._companions, history[:, :LATEST], known[:, :LATEST], fold),
            _part("popular", self._favourites[fold]),
        ]
        middle = self._middle(history, known)
        if self._near is not None:
            parts.append(_part("near", self._near[self._row[last], :NEAR]))
            offset = np.where(known, self._chord(history, middle), np.inf)
            home = history[np.arange(len(rows)), offset.argmin(axis=1)]
            parts.append(_part("home", self._near[self._row[home], :HOME]))
        item, source, given = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))

        held = (item[:, :, None] == history[:, None, :]) & known[:, None, :]
        followed = held[:, :, :-1] & (history[:, None, 1:] == last[:, None, None]) & known[:, None, 1:]
        km = chord_to_km(self._chord(item, None if self._xyz is None else self._xyz[last]))
        about = np.stack(
            [
                *given,
                np.log1p(km),
                np.log(_CLOSE_KM + km),
                np.log1p(chord_to_km(self._chord(item, middle))),
                np.log1p(self._popular[fold[:, None], item]),
                np.log1p(held.sum(axis=2)),
                np.log1p(followed.sum(axis=2)),
            ],
            axis=-1,
        )
        if discovery:
            item = np.where(self._visited(rows, item), -1, item)
        context = [
            np.log1p(rows - sequences.start[rows]),
            latest.sum(axis=1) / known.sum(axis=1),
            hours[:, 1] if history.shape[1] > 1 else np.zeros(len(rows)),
            np.log1p(times[:, 0]),
            np.log1p(self._popular[fold, last]),
            np.log1p(self._successors.total[fold, last]),
        ]
        return Suggested(item, source, about.astype(np.float32), np.stack(context, axis=-1).astype(np.float32))

    def _middle(self, history: Int64, known: Bool) -> Float64 | None:
        """(b, 3) unit-sphere point in the middle of each history."""
        if self._xyz is None:
            return None
        total = np.einsum("bt,btc->bc", known.astype(np.float64), self._xyz[history])
        return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), np.finfo(float).tiny))

    def _chord(self, items: Int64, point: Float64 | None) -> Float64:
        """(b, m) chords from (b, m) items to (b, 3) points; 0 without coordinates."""
        if self._xyz is None or point is None:
            return np.zeros(items.shape)
        return np.asarray(np.linalg.norm(self._xyz[items] - point[:, None], axis=2))

    def _visited(self, rows: Int64, item: Int64) -> Bool:
        """(b, m) whether the whole history holds an item."""
        row, held, _ = self._sequences.before(rows, None)
        items = len(self._row)
        return np.isin(np.arange(len(rows))[:, None] * items + item, row * items + held)


_Part = tuple[AnyInt, Int64, list[np.ndarray]]
"""(b, w) items, -1 where there is none, (w,) source, and its own three of ABOUT, each (b, w)."""


def _part(source: str, item: AnyInt, known: Bool | None = None, own: Sequence[np.ndarray] | None = None) -> _Part:
    """What one source suggests; without figures of its own they are 0."""
    number = np.full(item.shape[1], SOURCES.index(source))
    return item if known is None else np.where(known, item, -1), number, list(own or [np.zeros(item.shape)] * 3)


def _linked(source: str, links: Links, origin: Int64, known: Bool, fold: Int64) -> _Part:
    """What (b, s) items lead to, by the counts without a fold."""
    target, times = links.target[fold[:, None], origin], links.times[fold[:, None], origin]
    share = np.maximum(times, _RARE) / np.maximum(links.total[fold[:, None], origin], 1)[..., None]
    age = np.broadcast_to(np.log1p(np.arange(origin.shape[1]))[:, None], target.shape)
    own = [each.reshape(len(origin), -1) for each in (np.log(share), np.log1p(times), age)]
    wide = (len(origin), own[0].shape[1])
    return _part(source, target.reshape(wide), ((times > 0) & known[..., None]).reshape(wide), own)


def _most(counts: sparse.csr_matrix, width: int) -> tuple[Int32, Int32, Int32]:
    """(n, width) columns of each row's largest counts, -1 behind their end, and (n, width) those; (n,) sums of rows."""
    counts.eliminate_zeros()
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    order = np.lexsort((counts.indices, -counts.data, row))
    place = np.arange(len(row)) - counts.indptr[row]
    order, row, place = order[place < width], row[place < width], place[place < width]
    target, times = np.full((counts.shape[0], width), -1, np.int32), np.zeros((counts.shape[0], width), np.int32)
    target[row, place], times[row, place] = counts.indices[order], counts.data[order]
    return target, times, np.asarray(counts.sum(axis=1), dtype=np.int32).ravel()
