"""Items spread over the cluster by cells of the map.

    scan    one task per run of parts: point key and item_index of the items, and a small sample
    locate  the same rows ordered by cell; the cells come from the sample and adapt to density
    settle  one task per cell: its items grouped by point

The driver holds the sample and one box per cell, never the items.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from lgsid_ray.arrays import Float64, Int64, UInt64
from lgsid_ray.draws import random_bits
from lgsid_ray.errors import InputError
from lgsid_ray.geo.cells import Cells, bounds, partition
from lgsid_ray.geo.neighbourhood import CellIndex
from lgsid_ray.geo.points import PointGroups, group_by_point, point_degrees, point_xyz

SCANS = 64  # at most so many tasks read the parts
SAMPLE = 32_768  # items that decide where cells are cut
CELL_ITEMS = 50_000  # a cell's items; beyond SAMPLE / 64 cells, cells grow instead

Read = Callable[[str], tuple[Int64, Int64]]
"""Gives the point keys and the item_index of one part's items."""


@dataclass(frozen=True)
class Layout:
    """Items spread over cells: what the driver and every task may hold."""

    cell_index: CellIndex
    groups: list[Any]
    """One reference to a `PointGroups` per cell; in a list, so that a task fetches only the cells it asks for."""

    @property
    def items(self) -> int:
        """Number of items."""
        return int(self.cell_index.items.sum())

    def load(self, cell: int) -> PointGroups:
        """The items of a cell, grouped by point."""
        group: PointGroups = ray.get(self.groups[cell])
        return group

    def threshold(self, seed: int, stream: str, count: int) -> np.uint64 | None:
        """The random bits up to which exactly `count` items have theirs; None where all items are wanted."""
        if count >= self.items:
            return None
        smallest = ray.get([_smallest_bits.remote(group, seed, stream, count) for group in self.groups])
        return np.partition(np.concatenate(smallest), count - 1)[count - 1]


def lay_out(parts: Sequence[str], read: Read, seed: int) -> Layout:
    """Spread the items that `read` gives of each part over cells that adapt to density.

    Raises:
        InputError: no item, or all of them at one point.
    """
    scans, sampled, total = _scan(parts, read, seed)
    per_cell = max(CELL_ITEMS, total * 64 // SAMPLE)
    cells = partition(point_xyz(sampled), max(1, per_cell * len(sampled) // total))
    located = [_locate.remote(scan, cells) for scan in scans]
    settled: list[Any] = [_settle.options(num_returns=2).remote(cell, *located) for cell in range(cells.count)]
    outlines = ray.get([outline for _, outline in settled])
    kept = [cell for cell, outline in enumerate(outlines) if outline is not None]
    boxes, points, items = zip(*(outlines[cell] for cell in kept), strict=True)
    if sum(points) < 2:
        lat, lon = point_degrees(sampled[:1])
        raise InputError(
            f"catalogue: all {total} training items lie at one point ({lat[0]:.5f}, {lon[0]:.5f}); alignment "
            "needs at least two points: check the mapping of lat and lon, bring a catalogue with more points, or do "
            "without alignment: tokenizer.embeddings=origin"
        )
    return Layout(CellIndex(np.stack(boxes), np.array(points), np.array(items)), [settled[cell][0] for cell in kept])


def _scan(parts: Sequence[str], read: Read, seed: int) -> tuple[list[Any], Int64, int]:
    """Scanned rows by reference, the point keys of a uniform sample, and the number of items."""
    runs = np.array_split(np.array(parts, dtype=object), min(SCANS, len(parts)))
    asked: list[Any] = [_scan_parts.options(num_returns=2).remote(list(run), read, seed) for run in runs]
    counts, bits, keys = zip(*ray.get([note for _, note in asked]), strict=True)
    if not sum(counts):
        raise InputError(
            "catalogue: no item is in the training split; lower the shares in catalogue.split, or bring more items"
        )
    smallest = np.argsort(np.concatenate(bits))[:SAMPLE]
    return [scan for scan, _ in asked], np.concatenate(keys)[smallest], sum(counts)


@ray.remote
def _scan_parts(parts: list[str], read: Read, seed: int) -> tuple[tuple[Int64, Int64], tuple[int, UInt64, Int64]]:
    """Items of some parts as (point keys, item_index); their number, smallest random bits and those points."""
    keys, items = (np.concatenate(column) for column in zip(*map(read, parts), strict=True))
    bits = random_bits(seed, "cells", items)
    smallest = np.argsort(bits)[:SAMPLE]
    return (keys, items), (len(items), bits[smallest], keys[smallest])


@ray.remote
def _smallest_bits(group: PointGroups, seed: int, stream: str, count: int) -> UInt64:
    return np.sort(random_bits(seed, stream, group.items))[:count]


@ray.remote
def _locate(scan: tuple[Int64, Int64], cells: Cells) -> tuple[Int64, Int64, Int64]:
    """Scanned rows ordered by cell, and where each cell's rows start, (cells + 1,)."""
    keys, items = scan
    cell = cells.locate(point_xyz(keys))
    order = np.argsort(cell, kind="stable")
    return keys[order], items[order], np.searchsorted(cell[order], np.arange(cells.count + 1))


@ray.remote
def _settle(
    cell: int, *located: tuple[Int64, Int64, Int64]
) -> tuple[PointGroups | None, tuple[Float64, int, int] | None]:
    """One cell's items grouped by point; its box, points and items. None where the cell is empty."""
    spans = [(keys, items, slice(starts[cell], starts[cell + 1])) for keys, items, starts in located]
    keys = np.concatenate([keys[span] for keys, _, span in spans])
    items = np.concatenate([items[span] for _, items, span in spans])
    if not len(keys):
        return None, None
    group = group_by_point(keys, items)
    return group, (bounds(point_xyz(group.keys)), len(group.keys), len(group.items))
