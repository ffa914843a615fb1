"""Negatives of one cell's anchors, as a table: by exact neighbour rank, or uniformly (Eq 1).

Both see the rest of the world only through `load(cell)`, which fetches another cell's items when they matter.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.artifacts.schemas import NEGATIVES
from lgsid_ray.config.sampling import SamplingConfig
from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.geo.neighbourhood import CellIndex, neighbourhood
from lgsid_ray.geo.points import PointGroups, point_xyz
from lgsid_ray.sampling.ranks import draw_items, draw_ranks, draw_uniform

QUERIES = 2_048  # places whose neighbour lists are held at once


def ranked_negatives(
    cell: int,
    cell_index: CellIndex,
    load: Callable[[int], PointGroups],
    anchors: Int64,
    place_of: Int64,
    settings: SamplingConfig,
    seed: int,
) -> pa.Table:
    """Negatives at log-spaced neighbour ranks, exact over the whole catalogue.

    Args:
        load: the items of a cell, grouped by place.
        anchors: item_index of the cell's anchors, grouped by place.
        place_of: the anchors' positions among the cell's places, ascending.
    """
    if not len(anchors):
        return NEGATIVES.empty_table()
    around = neighbourhood(cell, cell_index, load, settings.max_rank)
    tables = []
    for first in range(0, len(around.rows), QUERIES):
        mine = slice(*np.searchsorted(place_of, [first, first + QUERIES]))
        wanted, back = np.unique(place_of[mine], return_inverse=True)
        found, chords = around.ranked(wanted)
        rank = draw_ranks(seed, anchors[mine], settings.negatives, around.count)
        items = draw_items(seed, anchors[mine], found[back[:, None], rank - 1], around.near)
        tables.append(_table(anchors[mine], items, chord_to_km(chords[back[:, None], rank - 1]), rank))
    return pa.concat_tables(tables)


def uniform_negatives(
    cell: int,
    cell_index: CellIndex,
    load: Callable[[int], PointGroups],
    anchors: Int64,
    place_of: Int64,
    settings: SamplingConfig,
    seed: int,
) -> pa.Table:
    """Negatives drawn uniformly, with repetition, from all items at other places; arguments as above."""
    own = load(cell)
    start = cell_index.offsets[cell] + own.starts[place_of]
    drawn = draw_uniform(seed, anchors, settings.negatives, int(cell_index.items.sum()), start, own.sizes[place_of])
    items = np.empty_like(drawn)
    xyz = np.empty((*drawn.shape, 3))
    for other in range(len(cell_index.items)):
        hit = (drawn >= cell_index.offsets[other]) & (drawn < cell_index.offsets[other + 1])
        if hit.any():
            group = load(other)
            local = drawn[hit] - cell_index.offsets[other]
            items[hit] = group.items[local]
            xyz[hit] = point_xyz(group.keys[np.searchsorted(group.starts, local, side="right") - 1])
    chord = np.linalg.norm(xyz - point_xyz(own.keys[place_of])[:, None, :], axis=-1)
    order = np.lexsort((items, chord), axis=-1)
    items, chord = np.take_along_axis(items, order, axis=1), np.take_along_axis(chord, order, axis=1)
    return _table(anchors, items, chord_to_km(chord), None)


def _table(anchors: Int64, items: Int64, km: Float64, rank: Int64 | None) -> pa.Table:
    starts = pa.array(np.arange(0, items.size + 1, items.shape[1]), pa.int32())
    ranks = pa.nulls(len(anchors), pa.list_(pa.int64()))
    if rank is not None:
        ranks = pa.ListArray.from_arrays(starts, pa.array(np.ascontiguousarray(rank).ravel(), pa.int64()))
    return pa.Table.from_arrays(
        [
            pa.array(anchors),
            pa.ListArray.from_arrays(starts, pa.array(items.ravel(), pa.int64())),
            pa.ListArray.from_arrays(starts, pa.array(km.ravel(), pa.float32())),
            ranks,
        ],
        schema=NEGATIVES,
    )
