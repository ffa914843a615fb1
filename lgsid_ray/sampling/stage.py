"""The sampling stage: which districts are put under each anchor's content (Eq 1), distributed over cells.

The items are laid out over cells (layout/stage.py); then one task per cell finds exact neighbour ranks over the
cell and its halo, draws negatives, and writes one output part. There is no neighbour table anywhere.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import ray

from lgsid_ray.config import RunConfig
from lgsid_ray.config.sampling import SamplingConfig
from lgsid_ray.draws import random_bits
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.layout import lay_out
from lgsid_ray.geo.neighbourhood import CellIndex
from lgsid_ray.geo.points import PointGroups
from lgsid_ray.sampling.negatives import ranked_negatives, uniform_negatives

TABLE = "negatives"


def sample(config: RunConfig, inputs: Mapping[str, StageDir], out: StageDir) -> dict[str, Any]:
    """Draw K negatives for every anchor: `items` of the catalogue in, `negatives` out.

    Anchors and candidates are training items only. Finished parts of an interrupted call are kept.

    Raises:
        InputError: no training item, or all of them at one point.
    """
    settings, seed = config.sampling, config.seed
    layout = lay_out(inputs["catalogue"], seed)
    chosen = None if settings.max_anchors is None else layout.threshold(seed, "anchor", settings.max_anchors)
    cells = range(len(layout.groups))
    drawn = ray.get(
        [_draw.remote(cell, layout.cell_index, layout.groups, settings, seed, chosen, out) for cell in cells]
    )
    anchors = sum(count for count, _, _ in drawn)
    places = int(layout.cell_index.places.sum())
    ranks = min(settings.max_rank, places - 1)
    density = settings.strategy == "density"
    return {
        "anchors": anchors,
        "negatives": anchors * settings.negatives,
        "training_items": layout.items,
        "places": places,
        "cells": len(cells),
        "farthest_rank": ranks if density else None,
        "repeats_ranks": density and ranks < settings.negatives,
        "mean_nearest_km": round(sum(near for _, near, _ in drawn) / anchors, 4),
        "mean_farthest_km": round(sum(far for _, _, far in drawn) / anchors, 4),
    }


@ray.remote
def _draw(
    cell: int,
    cell_index: CellIndex,
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
        own: PointGroups = ray.get(groups[cell])
        anchors, place_of = own.items, np.repeat(np.arange(len(own.keys)), own.sizes)
        if threshold is not None:
            chosen = random_bits(seed, "anchor", anchors) <= threshold
            anchors, place_of = anchors[chosen], place_of[chosen]
        draw = ranked_negatives if settings.strategy == "density" else uniform_negatives
        table = draw(cell, cell_index, lambda other: ray.get(groups[other]), anchors, place_of, settings, seed)
        out.write_table(name, table)
    km = table.column("distance_km").combine_chunks().flatten().to_numpy().reshape(-1, settings.negatives)
    return len(km), float(km[:, 0].sum(dtype=np.float64)), float(km[:, -1].sum(dtype=np.float64))
