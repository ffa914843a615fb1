"""What is known of a target beside its user's history, in numbers: habit, place, time, popularity, kind and price.

Every ranker sees them, with SIDs or without, so that SIDs are credited only with what such numbers do not say. Clicks
are counted without the users of the sample's own fold where the sample is a training one: its label is among them.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Bool, Float32, Float64, Int32, Int64
from lgsid_ray.artifacts import Items
from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.recommend.folds import FOLDS, without_each
from lgsid_ray.recommend.log import TRAIN
from lgsid_ray.recommend.rankers.follows import CLICKS, PASSES, Follows
from lgsid_ray.recommend.rankers.samples import Samples
from lgsid_ray.recommend.rankers.standardised import Standardised

KINDS = ("category_1", "category_2", "brand")
FACTS = (
    "visits",  # log times that the history holds the target
    "age",  # log events since its latest visit; those of the window where there is none
    "known",  # whether there is one
    "events",  # log length of the history's window
    "pause",  # log hours since the latest event
    "since",  # log hours since the target's latest visit; 0 where there is none
    "km",  # log(1 + km) from the last place
    "close",  # log(.05 + km) from the last place
    "nearest",  # log(1 + km) from the nearest place of the history
    "spread",  # mean of log(1 + km) from its places
    "middle",  # log(1 + km) from their middle
    "clicks",  # log training clicks of the target
    "odds",  # log odds of its training samples, shrunk
    *KINDS,  # share of the history that is of the target's
    "follows",  # how much likelier than usual the target is clicked after the latest event, see `Follows`
    *(f"{kind} follows" for kind in KINDS),  # the same of kinds
    "price",  # log price; 0 where it is not known
    "dearer",  # log price less its mean over the history; 0 where either is not known
    "sine",  # of the hour by the sun: 0 at midnight, 1 at six in the morning
    "cosine",
)
_CLOSE_KM = 0.05
_HOUR, _DAY = 3600.0, 24.0


@dataclass(frozen=True)
class Traits:
    """What items are: some 16 bytes each."""

    kinds: Int32
    """(n, len(KINDS)) codes; -1: not known."""
    price: Float32
    """(n,) log(1 + price); NaN: not known."""

    @classmethod
    def read(cls, items: Items) -> "Traits":
        """Of a catalogue's items."""
        table = items.read([*KINDS, "price"])
        kinds = [pc.fill_null(_codes(table.column(name)), -1).to_numpy(zero_copy_only=False) for name in KINDS]
        price = table.column("price").to_numpy(zero_copy_only=False).astype(np.float32)
        return cls(np.stack(kinds, axis=1).astype(np.int32), np.log1p(price))

    @classmethod
    def none(cls, items: int) -> "Traits":
        """Nothing is known of any."""
        return cls(np.full((items, len(KINDS)), -1, np.int32), np.full(items, np.nan, np.float32))


class Facts(Standardised):
    """`FACTS` of samples.

    Args:
        xyz: (n, 3) unit-sphere points of the items; without them all distances are 0.
    """

    width = len(FACTS)

    def __init__(self, samples: Samples, xyz: Float64 | None, traits: Traits, length: int, seed: int) -> None:
        super().__init__(samples, length, seed)
        self._xyz, self._traits = xyz, traits
        train = samples.of(TRAIN)
        place = self._fold[train] * np.int64(len(traits.price)) + samples.item[train]
        shape = (FOLDS, len(traits.price))
        self._clicks, self._passes = (
            without_each(np.bincount(place, weights, FOLDS * shape[1]).reshape(shape).astype(np.int64))
            for weights in (samples.label[train], 1 - samples.label[train])
        )
        kinds = (np.arange(shape[1]), *traits.kinds.T)
        self._follows = [Follows(samples, self._fold, kind) for kind in kinds]
        self._settle()

    def _raw(self, rows: Int64) -> Float64:
        samples, length = self._samples, self._length
        history, target = samples.histories(rows, length), samples.item[rows]
        inside = history >= 0
        history, events = np.where(inside, history, 0), inside.sum(axis=1)
        same = inside & (history == target[:, None])
        known, age = same.any(axis=1), np.where(same.any(axis=1), same.argmax(axis=1), length)
        hours = samples.gaps(rows, length) / _HOUR
        since = np.where(known, np.take_along_axis(hours, np.minimum(age, length - 1)[:, None], axis=1)[:, 0], 0.0)
        told_by = self._told_by(rows)
        clicks, passes = self._clicks[told_by, target], self._passes[told_by, target]
        odds = np.log((clicks + CLICKS) / (passes + PASSES))
        columns = [np.log1p(same.sum(axis=1)), np.log1p(age), known, np.log1p(events), np.log1p(hours[:, 0])]
        columns += [np.log1p(since), *self._distances(history, inside, target), np.log1p(clicks), odds]
        columns += self._kinds(history, inside, target)
        columns += [follows.of(samples, rows, told_by) for follows in self._follows]
        columns += self._prices(history, inside, target)
        columns += self._hours(rows, target)
        return np.column_stack(columns).astype(np.float64)

    def _distances(self, history: Int64, inside: Bool, target: Int64) -> list[Float64]:
        if self._xyz is None:
            return [np.zeros(len(target))] * 5
        here, places = self._xyz[target], self._xyz[history]
        some, count = inside.any(axis=1), np.maximum(inside.sum(axis=1), 1)
        km = chord_to_km(np.linalg.norm(places - here[:, None], axis=-1))
        middle = np.einsum("bt,btc->bc", inside.astype(np.float64), places)
        middle /= np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), np.finfo(float).tiny)
        last, nearest = km[:, 0], np.where(inside, km, np.inf).min(axis=1)
        spread = np.where(inside, np.log1p(km), 0.0).sum(axis=1) / count
        centre = chord_to_km(np.linalg.norm(here - middle, axis=1))
        found = [np.log1p(last), np.log(_CLOSE_KM + last), np.log1p(nearest), spread, np.log1p(centre)]
        return [np.where(some, each, 0.0) for each in found]

    def _kinds(self, history: Int64, inside: Bool, target: Int64) -> list[Float64]:
        own, count = self._traits.kinds[target], np.maximum(inside.sum(axis=1), 1)
        alike = (self._traits.kinds[history] == own[:, None]) & (own[:, None] >= 0) & inside[..., None]
        return list((alike.sum(axis=1) / count[:, None]).T)

    def _prices(self, history: Int64, inside: Bool, target: Int64) -> list[Float64]:
        own, before = self._traits.price[target], self._traits.price[history]
        told = inside & ~np.isnan(before)
        mean = np.where(told, before, 0.0).sum(axis=1) / np.maximum(told.sum(axis=1), 1)
        return [np.nan_to_num(own), np.where(told.any(axis=1), np.nan_to_num(own - mean), 0.0)]

    def _hours(self, rows: Int64, target: Int64) -> list[Float64]:
        if not self._samples.ordered:
            return [np.zeros(len(rows))] * 2
        hour = self._samples.time[rows] / _HOUR
        if self._xyz is not None:
            hour = hour + np.degrees(np.arctan2(self._xyz[target, 1], self._xyz[target, 0])) * _DAY / 360
        angle = hour * 2 * np.pi / _DAY
        return [np.sin(angle), np.cos(angle)]


def _codes(column: pa.ChunkedArray) -> pa.Array:
    return column.dictionary_encode().combine_chunks().indices
