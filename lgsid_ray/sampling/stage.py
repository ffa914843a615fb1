"""The sampling stage: which items lend their location to each anchor's content (Eq 1), distributed over cells.

The items are laid out over cells (geo/layout.py); then one task per cell finds exact neighbour ranks over the
cell and its halo, draws negatives, and writes one output part. There is no neighbour table anywhere.
"""

from functools import partial

import numpy as np
import pyarrow as pa
import ray

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Items, Negatives
from lgsid_ray.artifacts.items import points, trains
from lgsid_ray.artifacts.table import matrix
from lgsid_ray.config import RunConfig
from lgsid_ray.config.sampling import SamplingConfig
from lgsid_ray.draws import random_bits
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.layout import Layout, lay_out
from lgsid_ray.sampling.negatives import CellDraw


def sample(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Draw K negatives for every anchor: `items` of the catalogue in, `negatives` out.

    Anchors and candidates are training items only. Finished parts of an interrupted call are kept.

    Raises:
        InputError: no training item, no coordinates, or all items at one point.
    """
    settings, seed = config.sampling, config.seed
    items = Items(inputs["catalogue"])
    layout = lay_out(items.parts(), partial(_read, items), seed)
    chosen = None if settings.max_anchors is None else layout.threshold(seed, "anchor", settings.max_anchors)
    cells = range(len(layout.groups))
    drawn = ray.get([_draw.remote(cell, layout, settings, seed, chosen, Negatives(out)) for cell in cells])
    anchors = sum(count for count, _, _ in drawn)
    distinct = int(layout.cell_index.points.sum())
    ranks = min(settings.max_rank, distinct - 1)
    density = settings.strategy == "density"
    return {
        "anchors": anchors,
        "negatives": anchors * settings.negatives,
        "training_items": layout.items,
        "points": distinct,
        "cells": len(cells),
        "farthest_rank": ranks if density else None,
        "repeats_ranks": density and ranks < settings.negatives,
        "mean_nearest_km": round(sum(near for _, near, _ in drawn) / anchors, 4),
        "mean_farthest_km": round(sum(far for _, _, far in drawn) / anchors, 4),
    }


def _read(items: Items, part: str) -> tuple[Int64, Int64]:
    """Point keys and item_index of one part's training items."""
    table = items.part(part, ["item_index", "lat", "lon", "split"])
    table = table.filter(pa.array(trains(table)))
    return points(table), table.column("item_index").to_numpy()


@ray.remote
def _draw(
    cell: int, layout: Layout, settings: SamplingConfig, seed: int, threshold: np.uint64 | None, negatives: Negatives
) -> tuple[int, float, float]:
    """Write one cell's part unless it stands; number of anchors, sums of the nearest and farthest distance in km."""
    part = f"part-{cell:05d}.parquet"
    if part in negatives.folder.members(negatives.name):
        table = negatives.part(f"{negatives.path}/{part}", ["distance_km"])
    else:
        own = layout.load(cell)
        anchors, point_of = own.items, np.repeat(np.arange(len(own.keys)), own.sizes)
        if threshold is not None:
            chosen = random_bits(seed, "anchor", anchors) <= threshold
            anchors, point_of = anchors[chosen], point_of[chosen]
        draw = CellDraw(cell, layout.cell_index, layout.load, anchors, point_of, settings, seed)
        table = draw.negatives()
        negatives.write(table, part)
    if not len(table):
        return 0, 0.0, 0.0
    km = matrix(table.column("distance_km"))
    return len(km), float(km[:, 0].sum(dtype=np.float64)), float(km[:, -1].sum(dtype=np.float64))
