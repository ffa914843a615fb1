"""The sampling stage: which locations are put under each anchor's content (Eq 1), distributed over cells.

    scan    one task per run of item parts: place key and item_index of the training items, and a small sample
    locate  the same rows ordered by cell; the cells come from the sample and adapt to density
    settle  one task per cell: its items grouped by place
    draw    one task per cell: exact neighbour ranks over the cell and its halo, negatives, one output part

The driver holds the sample and one box per cell, never the items and never a neighbour table.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import ray

from lgsid_ray.config import RunConfig
from lgsid_ray.config.sampling import SamplingConfig
from lgsid_ray.draws import words
from lgsid_ray.errors import InputError
from lgsid_ray.geo.cells import Cells, bounds, partition
from lgsid_ray.geo.distance import Floats
from lgsid_ray.geo.negatives import World, ranked_negatives, uniform_negatives
from lgsid_ray.geo.places import Gathered, Integers, gather, place_degrees, place_keys, place_xyz
from lgsid_ray.storage import StageDir

SCANS = 64  # at most so many tasks read the catalogue
SAMPLE = 32_768  # items that decide where cells are cut
CELL_ITEMS = 50_000  # a cell's items; beyond SAMPLE / 64 cells, cells grow instead
TABLE = "negatives"


def sample(config: RunConfig, inputs: Mapping[str, StageDir], out: StageDir) -> dict[str, Any]:
    """Draw K negatives for every anchor: `items` of the catalogue in, `negatives` out.

    Anchors and candidates are training items only. Finished parts of an interrupted call are kept.

    Raises:
        InputError: no training item, or all of them at one point.
    """
    settings, seed = config.sampling, config.seed
    scans, sampled, total, threshold = _scan(inputs["catalogue"], settings, seed)
    per_cell = max(CELL_ITEMS, total * 64 // SAMPLE)
    cells = partition(place_xyz(sampled), max(1, per_cell * len(sampled) // total))
    located = [_locate.remote(scan, cells) for scan in scans]
    settled: list[Any] = [_settle.options(num_returns=2).remote(cell, *located) for cell in range(cells.count)]
    groups = [group for group, _ in settled]
    outlines = ray.get([outline for _, outline in settled])
    kept = [cell for cell, outline in enumerate(outlines) if outline is not None]
    world = World(
        boxes=np.stack([outlines[cell][0] for cell in kept]),
        places=np.array([outlines[cell][1] for cell in kept]),
        items=np.array([outlines[cell][2] for cell in kept]),
    )
    places = int(world.places.sum())
    if places < 2:
        lat, lon = place_degrees(sampled[:1])
        raise InputError(
            f"catalogue: all {total} training items lie at one point ({lat[0]:.5f}, {lon[0]:.5f}); negatives need "
            "at least two places: check the mapping of lat and lon, or bring a catalogue with more places"
        )
    shared = [groups[cell] for cell in kept]  # in a list, so that a task fetches only the cells it asks for
    tasks = [_draw.remote(cell, world, shared, settings, seed, threshold, out) for cell in range(len(kept))]
    drawn = ray.get(tasks)
    anchors = sum(count for count, _, _ in drawn)
    ranks = min(settings.max_rank, places - 1)
    return {
        "anchors": anchors,
        "negatives": anchors * settings.negatives,
        "training_items": total,
        "places": places,
        "cells": len(kept),
        "farthest_rank": ranks if settings.strategy == "density" else None,
        "repeats_places": settings.strategy == "density" and ranks < settings.negatives,
        "mean_nearest_km": round(sum(near for _, near, _ in drawn) / anchors, 4),
        "mean_farthest_km": round(sum(far for _, _, far in drawn) / anchors, 4),
    }


def _scan(
    catalogue: StageDir, settings: SamplingConfig, seed: int
) -> tuple[list[ray.ObjectRef], Integers, int, np.uint64 | None]:
    """Scanned rows by reference; sampled place keys; number of training items; the word above which none anchors."""
    parts = catalogue.parts("items")
    runs = np.array_split(np.array(parts, dtype=object), min(SCANS, len(parts)))
    asked: list[Any] = [
        _scan_parts.options(num_returns=2).remote(catalogue, list(r), settings.max_anchors, seed) for r in runs
    ]
    notes = ray.get([note for _, note in asked])
    total = sum(note["items"] for note in notes)
    if total == 0:
        raise InputError(
            "catalogue: no item is in the training split; lower catalogue.split.held_place and held_random, "
            "or bring more items"
        )
    word = np.concatenate([note["words"] for note in notes])
    sampled = np.concatenate([note["keys"] for note in notes])[np.argsort(word)[:SAMPLE]]
    threshold = None
    if settings.max_anchors is not None and settings.max_anchors < total:
        candidates = np.concatenate([note["anchor_words"] for note in notes])
        threshold = np.partition(candidates, settings.max_anchors - 1)[settings.max_anchors - 1]
    return [scan for scan, _ in asked], sampled, total, threshold


@ray.remote
def _scan_parts(
    catalogue: StageDir, parts: list[str], max_anchors: int | None, seed: int
) -> tuple[tuple[Integers, Integers], dict[str, Any]]:
    """Training items of some parts as (place keys, item_index), and the rows' smallest words."""
    keys, items = [], []
    for part in parts:
        table = catalogue.read_part(part, ["item_index", "lat", "lon", "split"])
        train = table.column("split").to_numpy(zero_copy_only=False) == "train"
        keys.append(place_keys(table.column("lat").to_numpy(), table.column("lon").to_numpy())[train])
        items.append(table.column("item_index").to_numpy()[train])
    key, item = np.concatenate(keys), np.concatenate(items)
    word = words(seed, "cells", item)
    smallest = np.argsort(word)[:SAMPLE]
    note = {"items": len(item), "words": word[smallest], "keys": key[smallest]}
    if max_anchors is not None:
        note["anchor_words"] = np.sort(words(seed, "anchor", item))[:max_anchors]
    return (key, item), note


@ray.remote
def _locate(scan: tuple[Integers, Integers], cells: Cells) -> tuple[Integers, Integers, Integers]:
    """Scanned rows ordered by cell, and where each cell's rows start, (cells + 1,)."""
    keys, items = scan
    cell = cells.locate(place_xyz(keys))
    order = np.argsort(cell, kind="stable")
    return keys[order], items[order], np.searchsorted(cell[order], np.arange(cells.count + 1))


@ray.remote
def _settle(
    cell: int, *located: tuple[Integers, Integers, Integers]
) -> tuple[Gathered | None, tuple[Floats, int, int] | None]:
    """One cell's items grouped by place; its box, places and items. None where the cell is empty."""
    spans = [(keys, items, slice(starts[cell], starts[cell + 1])) for keys, items, starts in located]
    keys = np.concatenate([keys[span] for keys, _, span in spans])
    items = np.concatenate([items[span] for _, items, span in spans])
    if not len(keys):
        return None, None
    group = gather(keys, items)
    return group, (bounds(place_xyz(group.keys)), len(group.keys), len(group.items))


@ray.remote
def _draw(
    cell: int,
    world: World,
    groups: list[ray.ObjectRef],
    settings: SamplingConfig,
    seed: int,
    threshold: np.uint64 | None,
    out: StageDir,
) -> tuple[int, float, float]:
    """Write one cell's part unless it stands; number of anchors, sums of the nearest and farthest distance in km."""
    name = f"{TABLE}/part-{cell:05d}.parquet"
    if out.exists(name):
        table = out.read_part(out.path(name), ["distance_km"])
    else:
        draw = ranked_negatives if settings.strategy == "density" else uniform_negatives
        own: Gathered = ray.get(groups[cell])
        anchors, place_of = own.items, np.repeat(np.arange(len(own.keys)), own.sizes)
        if threshold is not None:
            chosen = words(seed, "anchor", anchors) <= threshold
            anchors, place_of = anchors[chosen], place_of[chosen]
        table = draw(cell, world, lambda other: ray.get(groups[other]), anchors, place_of, settings, seed)
        out.write_table(name, table)
    km = table.column("distance_km").combine_chunks().flatten().to_numpy().reshape(-1, settings.negatives)
    return len(km), float(km[:, 0].sum(dtype=np.float64)), float(km[:, -1].sum(dtype=np.float64))
