"""Preference triples (anchor, i+, i-) of one cell's anchors (D_mix).

Every draw depends on the seed and on the triple's own identity (source, anchor, counter) alone, so triples do not
depend on how anchors are spread over tasks.
"""

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Bool, Int64, UInt64
from lgsid_ray.config.preference import PreferenceConfig
from lgsid_ray.draws import below, random_bits, unit
from lgsid_ray.geo.neighbourhood import Neighbourhood
from lgsid_ray.geo.points import PointGroups
from lgsid_ray.preference.districts import CITY, DISTRICT, PROVINCE, Districts
from lgsid_ray.preference.hard_negatives import just_outside

RANKS = 256  # neighbour ranks among which "just outside" is looked for


@dataclass(frozen=True)
class DrawnTriples:
    """Parallel columns; `negative` is -1 where it is still to be found in the reference space."""

    anchor: Int64
    counter: Int64
    """Tells apart the triples of an anchor: the round of a near one, i+ of a collaborative one."""
    positive: Int64
    negative: Int64
    level: Int64
    """Which region of the anchor i- lies outside of: PROVINCE, CITY or DISTRICT."""
    collaborative: Bool
    hard: Bool
    content: Bool

    def bits(self, seed: int, use: str) -> UInt64:
        """Random bits of every triple for one use."""
        near = random_bits(seed, f"near/{use}", self.anchor, self.counter)
        return np.where(self.collaborative, random_bits(seed, f"collaborative/{use}", self.anchor, self.counter), near)

    def take(self, rows: Int64 | Bool) -> "DrawnTriples":
        """The given rows."""
        return DrawnTriples(*(getattr(self, field.name)[rows] for field in fields(self)))

    def table(self) -> pa.Table:
        """With the columns of the table of triples."""
        source = np.where(self.collaborative, "collaborative", np.where(self.level == DISTRICT, "near", "wide"))
        columns = {"anchor": self.anchor, "positive": self.positive, "negative": self.negative}
        return pa.table({**columns, "source": source, "hard": self.hard})


def concatenate(runs: list[DrawnTriples]) -> DrawnTriples:
    """Several runs as one."""
    return DrawnTriples(*(np.concatenate([getattr(run, field.name) for run in runs]) for field in fields(DrawnTriples)))


@dataclass(frozen=True)
class Wanted:
    """Which triples are asked for, over all cells."""

    settings: PreferenceConfig
    seed: int
    pairs: Int64
    """(m, 2) collaborative (anchor, i+)."""
    repeats: int
    """Near triples of every item,"""
    threshold: np.uint64 | None
    """and one more of the items with random bits up to this."""

    def near_anchors(self, items: Int64) -> tuple[Int64, Int64]:
        """The anchors of near triples among a cell's items, and the round that tells apart several of one anchor."""
        extra = items[:0]
        if self.threshold is not None:
            extra = items[random_bits(self.seed, "near", items) <= self.threshold]
        rounds = np.append(np.repeat(np.arange(self.repeats), len(items)), np.full(len(extra), self.repeats))
        return np.append(np.tile(items, self.repeats), extra), rounds


@dataclass(frozen=True)
class CellDraw:
    """One cell's items, and all that their triples are drawn from."""

    own: PointGroups
    around: Neighbourhood
    districts: Districts
    settings: PreferenceConfig
    seed: int

    def triples(self, near_anchors: Int64, rounds: Int64, pairs: Int64) -> DrawnTriples:
        """Near triples of `near_anchors` and `rounds` (see `Wanted`), collaborative ones of (m, 2) `pairs`.

        All anchors lie in the cell.
        """
        settings, seed, districts = self.settings, self.seed, self.districts
        anchor = np.concatenate([near_anchors, pairs[:, 0]])
        blank = np.full(len(anchor), -1, dtype=np.int64)
        collaborative = np.arange(len(anchor)) >= len(near_anchors)
        counter = np.concatenate([rounds, pairs[:, 1]])
        never = np.zeros(len(anchor), dtype=bool)
        kind = DrawnTriples(anchor, counter, blank, blank, np.full_like(blank, DISTRICT), collaborative, never, never)
        # Wide triples: half of them for the city, half for the province.
        wide = unit(kind.bits(seed, "wide")) / max(settings.wide, 1e-12)
        asked_level = np.where((wide < 1) & ~collaborative, np.where(wide < 0.5, PROVINCE, CITY), DISTRICT)
        level = districts.contrast(anchor, asked_level)
        share = unit(kind.bits(seed, "kind"))
        hard = (level == DISTRICT) & (share < settings.hard)
        content = (level == DISTRICT) & ~hard & (share < settings.hard + settings.content)
        positive = districts.inside(anchor, kind.bits(seed, "inside"), level)
        near = (level == DISTRICT) & (unit(kind.bits(seed, "positive")) < settings.neighbour)
        closest = (positive < 0) | near
        positive[collaborative], closest[collaborative] = pairs[:, 1], False
        negative = districts.outside(anchor, kind.bits(seed, "outside"), level)
        negative[content] = -1

        asked = np.flatnonzero(hard | closest)
        point = np.searchsorted(self.own.keys, districts.key[anchor[asked]])
        distinct, back = np.unique(point, return_inverse=True)
        found, near_items = self.around.ranked(distinct)[0][back], self.around.near
        bits = np.stack([kind.bits(seed, "place")[asked], kind.bits(seed, "item")[asked]], axis=1)
        outer, inner = hard[asked], closest[asked]
        negative[asked[outer]] = just_outside(anchor[asked[outer]], found[outer], near_items, districts, bits[outer])
        positive[asked[inner]] = _nearest(found[inner], near_items, kind.bits(seed, "nearest")[asked[inner]])
        return DrawnTriples(anchor, counter, positive, negative, level, collaborative, hard, content)


def _nearest(found: Int64, near: PointGroups, bits: UInt64) -> Int64:
    """An item at the nearest other point of each anchor."""
    point = found[:, 0]
    return near.items[near.starts[point] + below(bits, near.sizes[point])]
