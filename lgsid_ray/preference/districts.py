"""Districts: the (province, city, district) of every training item, and draws inside and outside of one.

An item whose district is unknown belongs to none, and is in no draw.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from lgsid_ray.arrays import Float64, Int64, UInt64
from lgsid_ray.artifacts.items import points, trains
from lgsid_ray.artifacts.labels import LEVELS, SEPARATOR, label_paths
from lgsid_ray.config import RunConfig
from lgsid_ray.draws import below
from lgsid_ray.errors import InputError
from lgsid_ray.execution.stage import Facts
from lgsid_ray.geo.points import point_xyz

COLUMNS = ["item_index", "lat", "lon", "split", *LEVELS]
PROVINCE, CITY, DISTRICT = range(3)


@dataclass(frozen=True)
class PartDistricts:
    """What one part of the items tells about districts; rows in item_index order."""

    names: list[str]
    """Distinct label paths of its training items."""
    code: Int64
    """(rows,) positions in `names`; -1 outside the training split and where the district is unknown."""
    key: Int64
    """(rows,) points."""


@dataclass(frozen=True)
class Districts:
    """Compact columns that every task shares: 32 bytes an item, once per machine.

    Draws go by the region around an item: its district, or the city or the province that the district lies in.
    """

    code: Int64
    """(items,) district of each item; -1 for an item outside the training split or without a district."""
    key: Int64
    """(items,) point of each item."""
    members: Int64
    """(training items,) item_index by district, ascending within one."""
    position: Int64
    """(items,) where each training item stands in `members`."""
    starts: Int64
    """(districts + 1,) where each district's members start."""
    spans: Int64
    """(3, districts, 2) begin and end, in `members`, of each district's province, city and district."""
    centre: Float64
    """(districts, 3) mean of the members' points on the unit sphere."""

    @property
    def sizes(self) -> Int64:
        """Number of members of each district."""
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
        """A member of each given district, uniformly."""
        return self.members[self.starts[codes] + below(bits, self.sizes[codes])]

    def _span(self, items: Int64, level: ArrayLike) -> tuple[Int64, Int64]:
        begin, end = np.moveaxis(self.spans[np.asarray(level), self.code[items]], -1, 0)
        return begin, end


def members(items: pa.Table) -> tuple[Int64, Int64]:
    """Point keys and item_index of those rows of a part that have a district; needs COLUMNS."""
    kept = items.filter(_paths(items).is_valid())
    return points(kept), kept.column("item_index").to_numpy()


def read_districts(items: pa.Table) -> PartDistricts:
    """The districts of one part that has COLUMNS."""
    coded = _paths(items).combine_chunks().dictionary_encode()
    code = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return PartDistricts(coded.dictionary.to_pylist(), code, points(items))


def require_districts(config: RunConfig, facts: Facts) -> None:
    """Refuse a catalogue in which nothing lies elsewhere, before anything is computed from it.

    Raises:
        InputError: the catalogue's facts tell of fewer than two districts among the training items.
    """
    if facts["training_districts"] < 2:
        raise InputError(
            f"catalogue: the training items lie in {facts['training_districts']} known (province, city, district), so "
            "none lies elsewhere; map finer labels, or do without preferences: align.objective=distil, or no alignment"
        )


def locate(parts: list[PartDistricts]) -> Districts:
    """Districts of all items; `parts` in item_index order. Districts are numbered in the order of their paths."""
    used = sorted({name for part in parts for name in part.names})
    number = {name: code for code, name in enumerate(used)}
    code = np.concatenate([np.array([*(number[n] for n in part.names), -1])[part.code] for part in parts])
    key = np.concatenate([part.key for part in parts])
    known = np.flatnonzero(code >= 0)
    members = known[np.argsort(code[known], kind="stable")]
    starts = np.searchsorted(code[members], np.arange(len(used) + 1))
    position = np.full(len(code), -1, dtype=np.int64)
    position[members] = np.arange(len(members))
    centre = np.add.reduceat(point_xyz(key[members]), starts[:-1]) / np.diff(starts)[:, None]
    return Districts(code, key, members, position, starts.astype(np.int64), _spans(used, starts), centre)


def _paths(items: pa.Table) -> pa.ChunkedArray:
    """Label paths of the training items; null for the others and where the district is unknown."""
    return pc.if_else(pa.chunked_array([trains(items)]), label_paths(items), pa.scalar(None, pa.string()))


def _spans(names: list[str], starts: Int64) -> Int64:
    """In the order of the paths the districts of a province stand together, and in it those of a city."""
    spans = []
    for level in (PROVINCE, CITY, DISTRICT):
        region = np.array([SEPARATOR.join(name.split(SEPARATOR)[: level + 1]) for name in names], dtype=object)
        first = np.flatnonzero(np.append(True, region[1:] != region[:-1]))
        width = np.diff(np.append(first, len(names)))
        spans.append(np.repeat(np.stack([starts[first], starts[first + width]], axis=1), width, axis=0))
    return np.stack(spans).astype(np.int64)
