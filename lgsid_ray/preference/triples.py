"""Preference triples (anchor, i+, i-) of one cell's anchors (D_mix of METHOD).

Every draw depends on the seed and on the triple's own identity (source, anchor, counter) alone, so triples do not
depend on how anchors are spread over tasks.
"""

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Bool, Int64, UInt64
from lgsid_ray.artifacts.schemas import TRIPLES
from lgsid_ray.config.preference import PreferenceConfig
from lgsid_ray.draws import below, random_bits, unit
from lgsid_ray.geo.districts import CITY, DISTRICT, PROVINCE, Districts
from lgsid_ray.geo.neighbourhood import Neighbourhood
from lgsid_ray.geo.points import PointGroups
from lgsid_ray.preference.hard_negatives import just_outside

RANKS = 256  # neighbour ranks among which "just outside" is looked for


@dataclass(frozen=True)
class Triples:
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
        """One random word per triple for one use."""
        near = random_bits(seed, f"near/{use}", self.anchor, self.counter)
        return np.where(self.collaborative, random_bits(seed, f"collaborative/{use}", self.anchor, self.counter), near)

    def take(self, rows: Int64 | Bool) -> "Triples":
        """The given rows."""
        return Triples(*(getattr(self, field.name)[rows] for field in fields(self)))

    def table(self) -> pa.Table:
        """As the TRIPLES table."""
        source = np.where(self.collaborative, "collaborative", np.where(self.level == DISTRICT, "near", "wide"))
        columns = [self.anchor, self.positive, self.negative, source, self.hard]
        return pa.Table.from_arrays([pa.array(column) for column in columns], schema=TRIPLES)


def concatenate(runs: list[Triples]) -> Triples:
    """Several runs as one."""
    return Triples(*(np.concatenate([getattr(run, field.name) for run in runs]) for field in fields(Triples)))


def draw(
    near_anchors: Int64,
    rounds: Int64,
    pairs: Int64,
    own: PointGroups,
    around: Neighbourhood,
    districts: Districts,
    settings: PreferenceConfig,
    seed: int,
) -> Triples:
    """Triples of one cell.

    Args:
        near_anchors: anchors of near triples, with `rounds` telling apart several of one anchor.
        pairs: (m, 2) collaborative (anchor, i+) whose anchors lie in the cell.
        own: the cell's items.
        around: the cell's neighbourhood.
    """
    anchor = np.concatenate([near_anchors, pairs[:, 0]])
    blank = np.full(len(anchor), -1, dtype=np.int64)
    collaborative = np.arange(len(anchor)) >= len(near_anchors)
    counter = np.concatenate([rounds, pairs[:, 1]])
    never = np.zeros(len(anchor), dtype=bool)
    kind = Triples(anchor, counter, blank, blank, np.full_like(blank, DISTRICT), collaborative, never, never)
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
    place = np.searchsorted(own.keys, districts.key[anchor[asked]])
    distinct, back = np.unique(place, return_inverse=True)
    found = around.ranked(distinct)[0][back]
    bits = np.stack([kind.bits(seed, "place")[asked], kind.bits(seed, "item")[asked]], axis=1)
    outer, inner = hard[asked], closest[asked]
    negative[asked[outer]] = just_outside(anchor[asked[outer]], found[outer], around.near, districts, bits[outer])
    positive[asked[inner]] = _nearest(found[inner], around, kind.bits(seed, "nearest")[asked[inner]])
    return Triples(anchor, counter, positive, negative, level, collaborative, hard, content)


def _nearest(found: Int64, around: Neighbourhood, bits: UInt64) -> Int64:
    """An item at the nearest other place of each anchor."""
    place = found[:, 0]
    return around.near.items[around.near.starts[place] + below(bits, around.near.sizes[place])]
