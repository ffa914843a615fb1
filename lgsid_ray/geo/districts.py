"""Districts: the (province, city, district) of every training item, and draws inside and outside of one."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from lgsid_ray.arrays import Bool, Float64, Int64, UInt64
from lgsid_ray.draws import below
from lgsid_ray.geo.points import point_keys, point_xyz

LABEL_COLUMNS = ["lat", "lon", "split", "province", "city", "district"]
PROVINCE, CITY, DISTRICT = range(3)
_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class PartLabels:
    """What one part of the items tells about districts; rows in item_index order."""

    names: list[str]
    """Distinct labels, province, city and district in one string."""
    code: Int64
    """(rows,) positions in `names`."""
    key: Int64
    """(rows,) places."""
    train: Bool


@dataclass(frozen=True)
class Districts:
    """Compact columns that every task shares: 32 bytes an item, once per machine.

    Draws go by the region around an item: its location, or the city or the province that the location lies in.
    """

    code: Int64
    """(items,) location of each item; -1 for an item outside the training split."""
    key: Int64
    """(items,) place of each item."""
    members: Int64
    """(training items,) item_index by location, ascending within one."""
    position: Int64
    """(items,) where each training item stands in `members`."""
    starts: Int64
    """(districts + 1,) where each location's members start."""
    spans: Int64
    """(3, districts, 2) begin and end, in `members`, of each location's province, city and district."""
    centre: Float64
    """(districts, 3) mean of the members' points on the unit sphere."""

    @property
    def sizes(self) -> Int64:
        """Number of members of each location."""
        return np.diff(self.starts)

    def contrast(self, items: Int64, level: Int64) -> Int64:
        """`level`, or DISTRICT where that region holds all members, so that nothing lies outside."""
        begin, end = self._span(items, level)
        return np.where(end - begin == len(self.members), DISTRICT, level)

    def inside(self, items: Int64, bits: UInt64, level: ArrayLike = DISTRICT) -> Int64:
        """Another member of each item's region, uniformly; -1 where the item is alone there."""
        begin, end = self._span(items, level)
        drawn = begin + below(bits, np.maximum(end - begin - 1, 1))
        drawn += drawn >= self.position[items]
        return np.where(end - begin > 1, self.members[np.minimum(drawn, len(self.members) - 1)], -1)

    def outside(self, items: Int64, bits: UInt64, level: ArrayLike = DISTRICT) -> Int64:
        """A member of any other region than each item's, uniformly over items; there must be one (see `contrast`)."""
        begin, end = self._span(items, level)
        drawn = below(bits, len(self.members) - (end - begin))
        return self.members[np.where(drawn >= begin, drawn + (end - begin), drawn)]

    def member(self, codes: Int64, bits: UInt64) -> Int64:
        """A member of each given location, uniformly."""
        return self.members[self.starts[codes] + below(bits, self.sizes[codes])]

    def _span(self, items: Int64, level: ArrayLike) -> tuple[Int64, Int64]:
        begin, end = np.moveaxis(self.spans[np.asarray(level), self.code[items]], -1, 0)
        return begin, end


def read_labels(items: pa.Table) -> PartLabels:
    """The labels of one part that has the columns LABEL_COLUMNS; a null label counts as an empty one."""
    labels = [pc.fill_null(items.column(name), "") for name in ("province", "city", "district")]
    whole = pc.binary_join_element_wise(*labels, _SEPARATOR).combine_chunks().dictionary_encode()
    return PartLabels(
        names=whole.dictionary.to_pylist(),
        code=whole.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        key=point_keys(items.column("lat").to_numpy(), items.column("lon").to_numpy()),
        train=items.column("split").to_numpy(zero_copy_only=False) == "train",
    )


def locate(parts: list[PartLabels]) -> Districts:
    """Districts of all items; `parts` in item_index order. Districts are numbered by their label's order."""
    used = sorted({part.names[c] for part in parts for c in np.unique(part.code[part.train])})
    number = {name: code for code, name in enumerate(used)}
    numbers = [np.array([number.get(name, -1) for name in part.names], dtype=np.int64) for part in parts]
    code = np.concatenate([np.where(p.train, n[p.code], -1) for p, n in zip(parts, numbers, strict=True)])
    key = np.concatenate([part.key for part in parts])
    train = np.flatnonzero(code >= 0)
    members = train[np.argsort(code[train], kind="stable")]
    starts = np.searchsorted(code[members], np.arange(len(used) + 1))
    position = np.full(len(code), -1, dtype=np.int64)
    position[members] = np.arange(len(members))
    centre = np.add.reduceat(point_xyz(key[members]), starts[:-1]) / np.diff(starts)[:, None]
    return Districts(code, key, members, position, starts.astype(np.int64), _spans(used, starts), centre)


def _spans(names: list[str], starts: Int64) -> Int64:
    """In the order of the labels the districts of a province stand together, and in it those of a city."""
    spans = []
    for level in (PROVINCE, CITY, DISTRICT):
        region = np.array([_SEPARATOR.join(name.split(_SEPARATOR)[: level + 1]) for name in names], dtype=object)
        first = np.flatnonzero(np.append(True, region[1:] != region[:-1]))
        width = np.diff(np.append(first, len(names)))
        spans.append(np.repeat(np.stack([starts[first], starts[first + width]], axis=1), width, axis=0))
    return np.stack(spans).astype(np.int64)
