"""Negatives of one cell's anchors, as a table: by exact neighbour rank, or uniformly (Eq 1).

Both see the rest of the map only through `load(cell)`, which fetches another cell's items when they matter.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.artifacts import Negatives
from lgsid_ray.artifacts.table import lists
from lgsid_ray.config.sampling import SamplingConfig
from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.geo.neighbourhood import CellIndex, neighbourhood
from lgsid_ray.geo.points import PointGroups, point_xyz
from lgsid_ray.sampling.ranks import draw_items, draw_ranks, draw_uniform

QUERIES = 2_048  # points whose neighbour lists are held at once


@dataclass(frozen=True)
class CellDraw:
    """One cell's anchors, and all that their negatives are drawn from."""

    cell: int
    cell_index: CellIndex
    load: Callable[[int], PointGroups]
    """Gives the items of a cell, grouped by point."""
    anchors: Int64
    """item_index of the cell's anchors, grouped by point."""
    point_of: Int64
    """The anchors' positions among the cell's points, ascending."""
    settings: SamplingConfig
    seed: int

    def negatives(self) -> pa.Table:
        """K negatives of every anchor by the strategy that is configured, in the schema of `Negatives`."""
        if not len(self.anchors):
            return Negatives.schema.empty_table()
        return self._ranked() if self.settings.strategy == "density" else self._uniform()

    def _ranked(self) -> pa.Table:
        """At log-spaced neighbour ranks, exact over the whole catalogue."""
        around = neighbourhood(self.cell, self.cell_index, self.load, self.settings.max_rank)
        tables = []
        for first in range(0, len(around.rows), QUERIES):
            mine = slice(*np.searchsorted(self.point_of, [first, first + QUERIES]))
            wanted, back = np.unique(self.point_of[mine], return_inverse=True)
            found, chords = around.ranked(wanted)
            rank = draw_ranks(self.seed, self.anchors[mine], self.settings.negatives, around.count)
            items = draw_items(self.seed, self.anchors[mine], found[back[:, None], rank - 1], around.near)
            tables.append(_table(self.anchors[mine], items, chord_to_km(chords[back[:, None], rank - 1]), rank))
        return pa.concat_tables(tables)

    def _uniform(self) -> pa.Table:
        """Drawn uniformly, with repetition, from all items at other points; near to far."""
        own, offsets = self.load(self.cell), np.append(0, np.cumsum(self.cell_index.items))
        start, size = offsets[self.cell] + own.starts[self.point_of], own.sizes[self.point_of]
        drawn = draw_uniform(self.seed, self.anchors, self.settings.negatives, int(offsets[-1]), start, size)
        items = np.empty_like(drawn)
        xyz = np.empty((*drawn.shape, 3))
        for other in range(len(self.cell_index.items)):
            hit = (drawn >= offsets[other]) & (drawn < offsets[other + 1])
            if hit.any():
                group, local = self.load(other), drawn[hit] - offsets[other]
                items[hit] = group.items[local]
                xyz[hit] = point_xyz(group.keys[np.searchsorted(group.starts, local, side="right") - 1])
        chord = np.linalg.norm(xyz - point_xyz(own.keys[self.point_of])[:, None, :], axis=-1)
        order = np.lexsort((items, chord), axis=-1)
        items, chord = np.take_along_axis(items, order, axis=1), np.take_along_axis(chord, order, axis=1)
        return _table(self.anchors, items, chord_to_km(chord), None)


def _table(anchors: Int64, items: Int64, km: Float64, rank: Int64 | None) -> pa.Table:
    ranks = pa.nulls(len(anchors), pa.list_(pa.int64())) if rank is None else lists(rank, pa.int64())
    columns = [pa.array(anchors), lists(items, pa.int64()), lists(km, pa.float32()), ranks]
    return pa.Table.from_arrays(columns, schema=Negatives.schema)
