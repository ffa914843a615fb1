"""Drawn negatives for logs that hold visits but no impressions: some popular, some near the user's recent area."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.draws import below, random_bits, unit
from lgsid_ray.errors import InputError


@dataclass(frozen=True)
class Negatives:
    """How negatives are drawn: with replacement, never the positive itself.

    An item that the user visited at another time may be drawn: leaving those out would make "already visited" a
    certain sign of a positive.
    """

    items: int
    """Size of the catalogue."""
    xyz: Float64 | None
    """(n, 3) unit-sphere points of the items; without them no negative is drawn near."""
    ratio: int
    """Negatives per positive."""
    near: float
    """Share drawn among the `neighbours` nearest items of the last visited one; the rest by popularity."""
    neighbours: int

    def draw(self, positive: Int64, last: Int64, popular: Int64, seed: int) -> Int64:
        """(e, ratio) item_index, one row per positive.

        Args:
            positive: (e,) visited items.
            last: (e,) the item each user visited before, the positive itself where there is none.
            popular: (t,) items of the training visits; popularity is their count.

        Raises:
            InputError: there is only one item, so nothing can stand against it.
        """
        if self.items < 2:
            raise InputError("the catalogue has one item; negatives need at least two (set rank.enabled=false)")
        events = np.arange(len(positive))
        near = round(self.near * self.ratio) if self.xyz is not None else 0
        columns = [self._popular(positive, popular, events, k, seed) for k in range(self.ratio - near)]
        if self.xyz is not None and near:
            columns += self._near(self.xyz, positive, last, near, seed)
        return np.column_stack(columns)

    def _popular(self, positive: Int64, popular: Int64, events: Int64, turn: int, seed: int) -> Int64:
        count = np.bincount(popular, minlength=self.items)
        if (count > 0).sum() < 2:
            count = count + 1
        pool, cumulative = np.flatnonzero(count), np.cumsum(count[count > 0])
        draw = unit(random_bits(seed, "rank/popular", events, turn)) * cumulative[-1]
        place = np.searchsorted(cumulative, draw, side="right")
        same = pool[place] == positive
        return np.where(same, pool[(place + 1) % len(pool)], pool[place])

    def _near(self, xyz: Float64, positive: Int64, last: Int64, turns: int, seed: int) -> list[Int64]:
        centre, which = np.unique(last, return_inverse=True)
        size = min(self.neighbours + 1, self.items)
        around = cKDTree(xyz).query(xyz[centre], k=size)[1]
        events = np.arange(len(positive))
        columns = []
        for turn in range(turns):
            place = below(random_bits(seed, "rank/near", events, turn), size)
            item = around[which, place]
            columns.append(np.where(item == positive, around[which, (place + 1) % size], item))
        return columns
