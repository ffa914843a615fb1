"""The training items spread over the cluster: by cells of the map, and by location labels.

    scan    one task per run of item parts: place key and item_index of the training items, and a small sample
    locate  the same rows ordered by cell; the cells come from the sample and adapt to density
    settle  one task per cell: its items grouped by place

The driver holds the sample and one box per cell, never the items.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from lgsid_ray.arrays import Float64, Int64, UInt64
from lgsid_ray.draws import random_bits
from lgsid_ray.errors import InputError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.cells import Cells, bounds, partition
from lgsid_ray.geo.districts import LABEL_COLUMNS, Districts, PartLabels, locate, read_labels
from lgsid_ray.geo.neighbourhood import CellIndex
from lgsid_ray.geo.points import PointGroups, group_by_point, point_degrees, point_keys, point_xyz

SCANS = 64  # at most so many tasks read the catalogue
SAMPLE = 32_768  # items that decide where cells are cut
CELL_ITEMS = 50_000  # a cell's items; beyond SAMPLE / 64 cells, cells grow instead


@dataclass(frozen=True)
class Layout:
    """The training items spread over cells: what the driver and every task may hold."""

    cell_index: CellIndex
    groups: list[Any]
    """One reference to a `PointGroups` per cell; in a list, so that a task fetches only the cells it asks for."""

    @property
    def items(self) -> int:
        """Number of training items."""
        return int(self.cell_index.items.sum())

    def threshold(self, seed: int, stream: str, count: int) -> np.uint64 | None:
        """The word up to which exactly `count` training items have theirs; None where all of them are wanted."""
        if count >= self.items:
            return None
        smallest = ray.get([_smallest_words.remote(group, seed, stream, count) for group in self.groups])
        return np.partition(np.concatenate(smallest), count - 1)[count - 1]


def lay_out(catalogue: StageDir, seed: int) -> Layout:
    """Spread the catalogue's training items over cells that adapt to density.

    Raises:
        InputError: no training item, or all of them at one point.
    """
    scans, sampled, total = _scan(catalogue, seed)
    per_cell = max(CELL_ITEMS, total * 64 // SAMPLE)
    cells = partition(point_xyz(sampled), max(1, per_cell * len(sampled) // total))
    located = [_locate.remote(scan, cells) for scan in scans]
    settled: list[Any] = [_settle.options(num_returns=2).remote(cell, *located) for cell in range(cells.count)]
    outlines = ray.get([outline for _, outline in settled])
    kept = [cell for cell, outline in enumerate(outlines) if outline is not None]
    cell_index = CellIndex(
        boxes=np.stack([outlines[cell][0] for cell in kept]),
        places=np.array([outlines[cell][1] for cell in kept]),
        items=np.array([outlines[cell][2] for cell in kept]),
    )
    if cell_index.places.sum() < 2:
        lat, lon = point_degrees(sampled[:1])
        raise InputError(
            f"catalogue: all {total} training items lie at one point ({lat[0]:.5f}, {lon[0]:.5f}); alignment "
            "needs at least two places: check the mapping of lat and lon, bring a catalogue with more places, or do "
            "without alignment: tokenizer.embeddings=origin"
        )
    return Layout(cell_index, [settled[cell][0] for cell in kept])


def lay_districts(catalogue: StageDir) -> tuple[Any, int]:
    """The catalogue's `Districts`, by reference, and how many there are.

    Raises:
        InputError: fewer than two.
    """
    districts = _merge_labels.remote(*[_read_labels.remote(catalogue, part) for part in catalogue.parts("items")])
    count = ray.get(_count_locations.remote(districts))
    if count < 2:
        raise InputError(
            "catalogue: all training items share one (province, city, district), so none lies elsewhere; "
            "map finer labels, or set tokenizer.embeddings=origin to do without alignment"
        )
    return districts, count


def _scan(catalogue: StageDir, seed: int) -> tuple[list[Any], Int64, int]:
    """Scanned rows by reference, the place keys of a uniform sample, and the number of training items."""
    parts = catalogue.parts("items")
    runs = np.array_split(np.array(parts, dtype=object), min(SCANS, len(parts)))
    asked: list[Any] = [_scan_parts.options(num_returns=2).remote(catalogue, list(run), seed) for run in runs]
    notes = ray.get([note for _, note in asked])
    total = sum(count for count, _, _ in notes)
    if total == 0:
        raise InputError(
            "catalogue: no item is in the training split; lower catalogue.split.held_place and held_random, "
            "or bring more items"
        )
    word = np.concatenate([words_ for _, words_, _ in notes])
    keys = np.concatenate([keys_ for _, _, keys_ in notes])
    return [scan for scan, _ in asked], keys[np.argsort(word)[:SAMPLE]], total


@ray.remote
def _scan_parts(
    catalogue: StageDir, parts: list[str], seed: int
) -> tuple[tuple[Int64, Int64], tuple[int, UInt64, Int64]]:
    """Training items of some parts as (place keys, item_index); their number, smallest words and those places."""
    keys, items = [], []
    for part in parts:
        table = catalogue.read_part(part, ["item_index", "lat", "lon", "split"])
        train = table.column("split").to_numpy(zero_copy_only=False) == "train"
        keys.append(point_keys(table.column("lat").to_numpy(), table.column("lon").to_numpy())[train])
        items.append(table.column("item_index").to_numpy()[train])
    key, item = np.concatenate(keys), np.concatenate(items)
    word = random_bits(seed, "cells", item)
    smallest = np.argsort(word)[:SAMPLE]
    return (key, item), (len(item), word[smallest], key[smallest])


@ray.remote
def _smallest_words(group: PointGroups, seed: int, stream: str, count: int) -> UInt64:
    return np.sort(random_bits(seed, stream, group.items))[:count]


@ray.remote
def _read_labels(catalogue: StageDir, part: str) -> PartLabels:
    return read_labels(catalogue.read_part(part, LABEL_COLUMNS))


@ray.remote
def _merge_labels(*parts: PartLabels) -> Districts:
    return locate(list(parts))


@ray.remote
def _count_locations(districts: Districts) -> int:
    return len(districts.sizes)


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
    """One cell's items grouped by place; its box, places and items. None where the cell is empty."""
    spans = [(keys, items, slice(starts[cell], starts[cell + 1])) for keys, items, starts in located]
    keys = np.concatenate([keys[span] for keys, _, span in spans])
    items = np.concatenate([items[span] for _, items, span in spans])
    if not len(keys):
        return None, None
    group = group_by_point(keys, items)
    return group, (bounds(point_xyz(group.keys)), len(group.keys), len(group.items))
