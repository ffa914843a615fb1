"""Ranking samples: a target, the history before it, a label. No history holds what comes after its sample."""

from dataclasses import dataclass

import numpy as np

from lgsid_ray.arrays import Bool, Float32, Int8, Int32, Int64
from lgsid_ray.draws import random_bits, unit
from lgsid_ray.recommend.log import TEST, TRAIN, Log
from lgsid_ray.recommend.rankers.negatives import Negatives


@dataclass(frozen=True)
class Samples:
    """Samples in the log's order. A history is a window into `timeline`, so that none is stored twice."""

    user: Int32
    item: Int64
    label: Float32
    split: Int8
    time: Int64
    """(n,) Unix seconds, of the visit that a drawn negative stands against."""
    start: Int64
    """(n,) where the user's part of the timeline begins."""
    end: Int64
    """(n,) behind the last event that the sample may see."""
    timeline: Int64
    """(c,) item_index of every event that histories draw on, by user, then time."""
    moment: Int64
    """(c,) Unix seconds of each."""
    ordered: bool
    """False: the log has no times; a history is the set of the user's other training ratings."""

    def __len__(self) -> int:
        return len(self.item)

    def histories(self, rows: Int64, length: int) -> Int64:
        """(b, length) item_index, latest first, -1 behind the end of a history.

        Without times the order means nothing, and the target itself is taken out of its own history.
        """
        place, inside = self._places(rows, length)
        return np.where(inside, self._at(self.timeline, place), -1)

    def gaps(self, rows: Int64, length: int) -> Float32:
        """(b, length) seconds from each event of the history to the sample; 0 behind its end and without times."""
        place, inside = self._places(rows, length)
        gap = self.time[rows, None] - self._at(self.moment, place)
        return np.where(inside & self.ordered, gap, 0).astype(np.float32)

    def new(self, rows: Int64) -> Bool:
        """(b,) whether the target stands nowhere in its user's events before the sample, however long ago."""
        if not self.ordered:
            return np.ones(len(rows), dtype=bool)
        begins = np.unique(self.start)
        owner = np.searchsorted(begins, np.arange(len(self.timeline)), side="right")
        size = max(self.item.max(initial=0), self.timeline.max(initial=0)) + 1
        keys, first = np.unique(owner * size + self.timeline, return_index=True)
        wanted = np.searchsorted(begins, self.start[rows], side="right") * size + self.item[rows]
        place = np.searchsorted(keys, wanted)
        there = place < len(keys)
        there[there] = keys[place[there]] == wanted[there]
        seen = np.zeros(len(rows), dtype=bool)
        seen[there] = first[place[there]] < self.end[rows[there]]
        return ~seen

    def _places(self, rows: Int64, length: int) -> tuple[Int64, Bool]:
        """(b, length) places in the timeline, 0 outside a history, and which are inside."""
        place = self.end[rows, None] - np.arange(1, length + 1)
        inside = place >= self.start[rows, None]
        place = np.where(inside, place, 0)
        if not self.ordered:
            inside &= self._at(self.timeline, place) != self.item[rows, None]
        return place, inside

    @staticmethod
    def _at(timeline: Int64, place: Int64) -> Int64:
        return timeline[place] if len(timeline) else np.zeros_like(place)

    def of(self, split: int) -> Int64:
        """Rows of one split."""
        return np.flatnonzero(self.split == split)


def asked(log: Log, threshold: float | None, user: Int32, item: Int64, time: Int64 | None) -> Samples:
    """Samples to be scored, label 0: whether each user, by number, or -1 of whom nothing is known, takes an item.

    A history is made of the user's positives before `time`; without times of all ratings.

    Args:
        time: (n,) Unix seconds; None: the time of the log's latest event, which is seen as well.
    """
    kept = _positive(log, threshold) if log.timed else np.ones(len(log), dtype=bool)
    known, item_of, moment = log.user[kept], log.item[kept], log.time[kept]
    start = np.searchsorted(known, user, side="left")
    now = int(log.time.max(initial=0))
    when = np.full(len(user), now) if time is None else time
    if log.timed:
        end = _before(known, moment, user, when + (time is None))
    else:
        end = np.searchsorted(known, user, side="right")
    zeros = np.zeros(len(user), dtype=np.float32)
    split = np.full(len(user), TEST, dtype=np.int8)
    return Samples(user, item, zeros, split, when, start, end, item_of, moment, log.timed)


def build(log: Log, negatives: Negatives, threshold: float | None, seed: int) -> Samples:
    """Samples of a log of any kind.

    Impressions: labels as logged, negatives thinned to `negatives.ratio` per click. Visits: every event is a
    positive, negatives are drawn. Ratings: positive from `threshold` on (see `rating_threshold`).
    A history is made of the user's positives strictly before the event, as it will be when the model serves: before a
    test event, of earlier test events too. Without times it is made of all the user's training ratings whatever their
    label, since positives alone would betray the target's label.
    """
    positive = _positive(log, threshold)
    split = log.rank_split
    keep = np.flatnonzero(positive if log.timed else split == TRAIN)
    if not log.timed:
        keep = keep[np.lexsort((random_bits(seed, "rank/set", keep), log.user[keep]))]
    user, time = log.user[keep], log.time[keep]
    start = np.searchsorted(user, log.user, side="left")
    end = _before(user, time, log.user, log.time) if log.timed else np.searchsorted(user, log.user, side="right")
    timeline = log.item[keep]
    rows = np.arange(len(log))
    item, label = log.item, positive.astype(np.float32)
    if log.kind == "impressions":
        rows = _thin(positive, negatives.ratio, seed)
        item, label = item[rows], label[rows]
    elif log.kind == "visits":
        last = np.where(end > start, timeline[np.maximum(end - 1, 0)], log.item) if len(timeline) else log.item
        drawn = negatives.draw(log.item, last, log.item[split == TRAIN], seed)
        rows = np.repeat(rows, negatives.ratio + 1)
        item = np.column_stack([log.item, drawn]).ravel()
        label = np.tile(np.r_[1.0, np.zeros(negatives.ratio)].astype(np.float32), len(log))
    return Samples(
        log.user[rows], item, label, split[rows], log.time[rows], start[rows], end[rows], timeline, time, log.timed
    )


def rating_threshold(log: Log) -> float | None:
    """The median training rating, raised a step where all would be positive; None for other kinds of log."""
    if log.kind != "ratings":
        return None
    train = log.rank_split == TRAIN
    seen = log.label[train] if train.any() else log.label
    median = float(np.median(seen))
    above = seen[seen > median]
    return float(above.min()) if median <= seen.min() and len(above) else median


def _positive(log: Log, threshold: float | None) -> Bool:
    return log.label >= threshold if threshold is not None else log.label > 0


def _before(user: Int32, time: Int64, whose: Int32, when: Int64) -> Int64:
    """For every (whose, when): behind that user's last timeline event with a strictly smaller time.

    Args:
        user, time: (c,) of the timeline, in its order.
    """
    floor = min(time.min(initial=0), when.min(initial=0))
    span = int(max(time.max(initial=0), when.max(initial=0)) - floor) + 1
    key = user.astype(np.int64) * span + (time - floor)
    return np.searchsorted(key, whose.astype(np.int64) * span + (when - floor), side="left")


def _thin(positive: Bool, ratio: int, seed: int) -> Int64:
    """Rows of all positives and a seeded share of the negatives, about `ratio` to one."""
    rows = np.arange(len(positive))
    share = ratio * positive.sum() / max((~positive).sum(), 1)
    return np.flatnonzero(positive | (unit(random_bits(seed, "rank/thin", rows)) < share))
