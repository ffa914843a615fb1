"""Generation samples: the next item of a user, and what came before it, leave-last-out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lgsid_ray.arrays import Bool, Int8, Int32, Int64
from lgsid_ray.draws import random_bits
from lgsid_ray.recommend.log import NO_SPLIT, TRAIN, Log

SESSION = 5
"""Items of a session: as many are written at once where a generator writes sessions."""


@dataclass(frozen=True)
class Sequences:
    """Every user's visits in time order; a sample is a position in them, its history all that stands before."""

    user: Int32
    """(c,) ascending."""
    item: Int64
    """(c,) item_index."""
    time: Int64
    """(c,) Unix seconds."""
    split: Int8
    """(c,) of the event as a target: the last of a user is TEST, the one before it VALID."""
    start: Int64
    """(c,) position of the user's first event."""

    def of(self, split: int) -> Int64:
        """Positions that are targets of a split: those with a history."""
        position = np.arange(len(self.item))
        return position[(self.split == split) & (position > self.start)]

    def histories(self, positions: Int64, length: int) -> Int64:
        """(b, length) item_index, latest first, -1 behind the end of a history."""
        before = positions[:, None] - np.arange(1, length + 1)
        inside = before >= self.start[positions, None]
        return np.where(inside, self.item[np.where(inside, before, 0)], -1)

    def sessions(self, positions: Int64) -> Int64:
        """(b, SESSION) item_index of the targets and of what follows each among its user's events of its split; or -1.

        So a training session holds no validation or test target.
        """
        ahead = np.minimum(positions[:, None] + np.arange(SESSION), len(self.item) - 1)
        own = (self.user[ahead] == self.user[positions, None]) & (self.split[ahead] == self.split[positions, None])
        own &= ahead - positions[:, None] == np.arange(SESSION)
        return np.where(own, self.item[ahead], -1)

    def closing(self, positions: Int64, every: int) -> Bool:
        """(b,) of the events of a user and split, counted from the last, the first of each `every`.

        With the `every` − 1 events before each of them these are all events, each once.
        """
        runs = self.user.astype(np.int64) * (int(self.split.max(initial=0)) + 2) + self.split
        last = np.flatnonzero(np.append(runs[1:] != runs[:-1], True))
        behind = last[np.searchsorted(last, positions)] - positions
        return np.asarray(behind % every == 0)

    def before(self, positions: Int64, limit: int | None) -> tuple[Int64, Int64, Int64]:
        """The events that precede each position, up to `limit` latest ones: (m,) row of `positions`, item_index, age.

        The age of the event right before a position is 0.
        """
        count = positions - self.start[positions]
        if limit is not None:
            count = np.minimum(count, limit)
        row = np.repeat(np.arange(len(positions)), count)
        age = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        return row, self.item[positions[row] - 1 - age], age

    def continued(self) -> "Sequences":
        """With one more event behind each user's last, of which nothing is known: there one asks what comes next."""
        behind = np.flatnonzero(np.append(self.user[1:] != self.user[:-1], True)) + 1
        user = np.insert(self.user, behind, self.user[behind - 1])
        time = np.insert(self.time, behind, self.time[behind - 1])
        item, split = np.insert(self.item, behind, 0), np.insert(self.split, behind, NO_SPLIT)
        return Sequences(user, item, time, split, np.searchsorted(user, user))

    def apart(self, window: int) -> Iterator[tuple[Int64, Int64]]:
        """Positions (earlier, later) of all pairs of a user's training events that lie 1, then 2, … `window` apart."""
        train = np.flatnonzero(self.split == TRAIN)
        for distance in range(1, window + 1):
            later = train[train - distance >= self.start[train]]
            yield later - distance, later

    def is_new(self, positions: Int64) -> Bool:
        """Whether the target occurs nowhere in its user's whole history."""
        pairs = self.user.astype(np.int64) * (int(self.item.max(initial=0)) + 1) + self.item
        order = np.lexsort((np.arange(len(pairs)), pairs))
        repeated = np.zeros(len(pairs), dtype=bool)
        repeated[order[1:]] = pairs[order[1:]] == pairs[order[:-1]]
        return ~repeated[positions]

    def training(self) -> tuple[Int64, Int64, Int64]:
        """The training events (their items), and every pair (from, to) of consecutive training events of a user."""
        train = np.flatnonzero(self.split == TRAIN)
        follows = train[train > self.start[train]]
        return self.item[train], self.item[follows - 1], self.item[follows]


def build(log: Log) -> Sequences:
    """Sequences of the events that the log's leave-last-out split names: visits, clicks, ratings; no impressions."""
    rows = np.flatnonzero(log.generate_split != NO_SPLIT)
    user = log.user[rows]
    first = np.searchsorted(user, user, side="left")
    return Sequences(user, log.item[rows], log.time[rows], log.generate_split[rows], first)


def sample(positions: Int64, count: int | None, seed: int) -> Int64:
    """A seeded sub-sample of target positions, in order; None or enough: all of them."""
    if count is None or count >= len(positions):
        return positions
    chosen = np.argsort(random_bits(seed, "generate/sample", positions), kind="stable")[:count]
    return positions[np.sort(chosen)]
