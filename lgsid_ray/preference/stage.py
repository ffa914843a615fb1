"""The preference stage: (anchor, i+, i-) triples for G-DPO out of co-visits (D_dc, Eq 5) and geography (D_gc).

    draw    one task per cell of the map: anchors, i+ and the geographic i-
    alike   one task per part of the embeddings: i- that resemble their anchor in the reference space
    check   no i- may be co-visited with its anchor, or be its i+; such are drawn again

The driver holds the triples that configuration asked for, never the items; an interrupted call begins anew.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import ray

from lgsid_ray.arrays import Int64, UInt64
from lgsid_ray.config import RunConfig
from lgsid_ray.config.preference import PreferenceConfig
from lgsid_ray.draws import random_bits
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.districts import DISTRICT, Districts
from lgsid_ray.geo.layout import Layout, lay_districts, lay_out
from lgsid_ray.geo.neighbourhood import CellIndex, neighbourhood
from lgsid_ray.geo.points import PointGroups
from lgsid_ray.preference.covisits import Covisits, count_covisits
from lgsid_ray.preference.hard_negatives import alike_outside
from lgsid_ray.preference.triples import RANKS, Triples, draw
from lgsid_ray.preference.triples import concatenate as concatenate_triples

POOL = 8_192  # training items that opponents of the reference space are taken from
ROWS = 16_384  # triples that are drawn at once
QUERIES = 512  # anchors that are compared with the pool at once
PART_ROWS = 131_072
REDRAWS = 8
TABLE = "triples"


def prefer(config: RunConfig, inputs: Mapping[str, StageDir], out: StageDir) -> dict[str, Any]:
    """Write `triples`: catalogue and reference embeddings in, training items only.

    Raises:
        InputError: fewer than two districts, or two places, to prefer between.
    """
    settings, seed, catalogue = config.preference, config.seed, inputs["catalogue"]
    layout = lay_out(catalogue, seed)
    districts, count = lay_districts(catalogue)
    covisits = count_covisits(catalogue, districts, settings)
    wanted = round(settings.triples * settings.collaborative)
    pairs = covisits.choose(wanted, seed)
    triples = _draw_all(layout, districts, pairs, settings, seed)
    triples = _find_alike(triples, inputs["embed"], layout, districts, seed)
    triples, redrawn = _replace_covisited(triples, covisits, seed)
    order = np.lexsort((triples.positive, triples.anchor, triples.bits(seed, "order")))
    table = triples.take(order).table()
    out.remove(TABLE)
    for number, first in enumerate(range(0, table.num_rows, PART_ROWS)):
        out.write_table(f"{TABLE}/part-{number:05d}.parquet", table.slice(first, PART_ROWS))
    return {
        "triples": table.num_rows,
        "collaborative": int(triples.collaborative.sum()),
        "collaborative_short": wanted - len(pairs),
        "hard": int(triples.hard.sum()),
        "content": int(triples.content.sum()),
        "wide": int((triples.level != DISTRICT).sum()),
        "dropped": settings.triples - table.num_rows,
        "redrawn": redrawn,
        "covisited_pairs": len(covisits),
        "covisit_threshold": covisits.threshold,
        "districts": count,
    }


def _draw_all(layout: Layout, districts: Any, pairs: Int64, settings: PreferenceConfig, seed: int) -> Triples:
    """All triples; near anchors are every training item equally often, the remainder by a seeded sub-sample."""
    repeats, rest = divmod(settings.triples - len(pairs), layout.items)
    threshold = layout.threshold(seed, "near", rest) if rest else None
    shared = ray.put(pairs)
    tasks = [
        _draw_cell.remote(cell, layout.cell_index, layout.groups, districts, shared, repeats, threshold, settings, seed)
        for cell in range(len(layout.groups))
    ]
    return concatenate_triples(ray.get(tasks))


@ray.remote
def _draw_cell(
    cell: int,
    cell_index: CellIndex,
    groups: list[Any],
    districts: Districts,
    pairs: Int64,
    repeats: int,
    threshold: np.uint64 | None,
    settings: PreferenceConfig,
    seed: int,
) -> Triples:
    own: PointGroups = ray.get(groups[cell])
    extra = own.items[:0] if threshold is None else own.items[random_bits(seed, "near", own.items) <= threshold]
    anchors = np.concatenate([np.tile(own.items, repeats), extra])
    rounds = np.concatenate([np.repeat(np.arange(repeats), len(own.items)), np.full(len(extra), repeats)])
    mine = pairs[np.isin(pairs[:, 0], own.items)]
    around = neighbourhood(cell, cell_index, lambda other: ray.get(groups[other]), RANKS)
    runs = []
    for first in range(0, max(len(anchors), len(mine), 1), ROWS):
        rows = slice(first, first + ROWS)
        runs.append(draw(anchors[rows], rounds[rows], mine[rows], own, around, districts, settings, seed))
    return concatenate_triples(runs)


def _find_alike(triples: Triples, embed: StageDir, layout: Layout, districts: Any, seed: int) -> Triples:
    """The triples with the i- that resemble their anchor filled in."""
    rows = np.flatnonzero(triples.content)
    if not len(rows):
        return triples
    threshold = layout.threshold(seed, "pool", POOL)
    anchors = ray.put(np.unique(triples.anchor[rows]))
    read: list[Any] = [
        _read_vectors.options(num_returns=2).remote(embed, part, anchors, districts, threshold, seed)
        for part in embed.parts("embeddings")
    ]
    pool = _join_vectors.remote(*[pooled for _, pooled in read])
    asked = ray.put((triples.anchor[rows], triples.bits(seed, "alike")[rows]))
    found = ray.get([_alike.remote(asked, vectors, pool, districts) for vectors, _ in read])
    negative = triples.negative.copy()
    for where, items in found:
        negative[rows[where]] = items
    # No item of the pool lies elsewhere: drawn like the others.
    filled = replace(triples, negative=negative)
    return _redraw(filled, rows[negative[rows] < 0], districts, seed, 0)


Vectors = tuple[Int64, Any]
"""item_index ascending, and the (n, d) float32 rows."""


@ray.remote
def _read_vectors(
    embed: StageDir, part: str, anchors: Int64, districts: Districts, threshold: np.uint64 | None, seed: int
) -> tuple[Vectors, Vectors]:
    """Of one part of the embeddings: the anchors' rows, and the pool's."""
    table = embed.read_part(part, ["item_index", "embedding"])
    items = table.column("item_index").to_numpy()
    vectors = table.column("embedding").combine_chunks().flatten().to_numpy().reshape(len(items), -1)
    pooled = districts.code[items] >= 0
    if threshold is not None:
        pooled &= random_bits(seed, "pool", items) <= threshold
    asked = np.isin(items, anchors)
    return (items[asked], vectors[asked]), (items[pooled], vectors[pooled])


@ray.remote
def _join_vectors(*runs: Vectors) -> Vectors:
    return np.concatenate([items for items, _ in runs]), np.concatenate([vectors for _, vectors in runs])


@ray.remote
def _alike(asked: tuple[Int64, Any], own: Vectors, pool: Vectors, districts: Districts) -> tuple[Int64, Int64]:
    """Which of the asked triples have their anchor in `own`, and their i-."""
    anchors, bits = asked
    items, vectors = own
    where = np.flatnonzero(np.isin(anchors, items))
    found = [np.empty(0, dtype=np.int64)]
    for first in range(0, len(where), QUERIES):
        rows = where[first : first + QUERIES]
        queries = vectors[np.searchsorted(items, anchors[rows])]
        found.append(alike_outside(anchors[rows], queries, *pool, districts, bits[rows]))
    return where, np.concatenate(found)


def _replace_covisited(triples: Triples, covisits: Covisits, seed: int) -> tuple[Triples, int]:
    """Triples whose i- is neither i+ nor co-visited with its anchor, and how many were drawn again for it.

    What still fails after REDRAWS draws is dropped.
    """
    redrawn = 0
    for attempt in range(1, REDRAWS + 2):
        refused = (triples.negative == triples.positive) | covisits.contains(triples.anchor, triples.negative)
        rows = np.flatnonzero(refused)
        if not len(rows):
            break
        if attempt > REDRAWS:
            return triples.take(~refused), redrawn
        triples = _redraw(triples, rows, covisits.districts, seed, attempt)
        redrawn += len(rows)
    return triples, redrawn


def _redraw(triples: Triples, rows: Int64, districts: Any, seed: int, attempt: int) -> Triples:
    """New i- for some rows, from anywhere outside the anchor's location (of a wide one, its city or province)."""
    some = triples.take(rows)
    drawn = ray.get(_draw_outside.remote(districts, some.anchor, some.bits(seed, f"redraw/{attempt}"), some.level))
    negative, hard, content = triples.negative.copy(), triples.hard.copy(), triples.content.copy()
    negative[rows], hard[rows], content[rows] = drawn, False, False
    return replace(triples, negative=negative, hard=hard, content=content)


@ray.remote
def _draw_outside(districts: Districts, anchors: Int64, bits: UInt64, level: Int64) -> Int64:
    return districts.outside(anchors, bits, level)
