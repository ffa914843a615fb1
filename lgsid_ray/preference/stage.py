"""The preference stage: (anchor, i+, i-) triples for G-DPO out of co-visits (D_dc, Eq 5) and geography (D_gc).

    draw    one task per cell of the map: anchors, i+ and the geographic i-
    alike   one task per part of the embeddings: i- that resemble their anchor in the reference space
    check   no i- may be co-visited with its anchor, or be its i+; such are drawn again

The driver holds the triples that configuration asked for, never the items; an interrupted call begins anew.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import ray

from lgsid_ray.arrays import Int64, UInt64
from lgsid_ray.artifacts import Embeddings, Interactions, Items, Triples
from lgsid_ray.artifacts.embeddings import vectors
from lgsid_ray.config import RunConfig
from lgsid_ray.draws import random_bits
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.layout import Layout, lay_out
from lgsid_ray.geo.neighbourhood import neighbourhood
from lgsid_ray.preference.covisits import Covisits, count_covisits
from lgsid_ray.preference.districts import COLUMNS, DISTRICT, Districts, PartDistricts, locate, members, read_districts
from lgsid_ray.preference.hard_negatives import Embedded, alike_outside
from lgsid_ray.preference.triples import RANKS, CellDraw, DrawnTriples, Wanted, concatenate

POOL = 8_192  # training items that hard negatives of the reference space are taken from
ROWS = 16_384  # triples that are drawn at once
QUERIES = 512  # anchors that are compared with the pool at once
PART_ROWS = 131_072
REDRAWS = 8


def prefer(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Write `triples`: catalogue and reference embeddings in; training items of known districts only.

    Raises:
        InputError: no coordinates, or fewer than two points, to prefer between.
    """
    settings, seed, items = config.preference, config.seed, Items(inputs["catalogue"])
    read = [_read_districts.remote(items, part) for part in items.parts()]
    located: Any = _locate.options(num_returns=2).remote(*read)
    districts, count = located[0], ray.get(located[1])
    layout = lay_out(items.parts(), lambda part: members(items.part(part, COLUMNS)), seed)
    covisits = count_covisits(Interactions(inputs["catalogue"]), districts, settings)
    wanted = round(settings.triples * settings.collaborative)
    pairs = covisits.choose(wanted, seed)
    repeats, rest = divmod(settings.triples - len(pairs), layout.items)
    threshold = layout.threshold(seed, "near", rest) if rest else None
    triples = _draw(layout, districts, Wanted(settings, seed, pairs, repeats, threshold))
    triples = _find_alike(triples, Embeddings(inputs["embed"]), layout, districts, seed)
    triples, redrawn = _replace_covisited(triples, covisits, seed)
    order = np.lexsort((triples.positive, triples.anchor, triples.bits(seed, "order")))
    _write(triples.take(order), Triples(out))
    return {
        "triples": len(order),
        "collaborative": int(triples.collaborative.sum()),
        "collaborative_short": wanted - len(pairs),
        "hard": int(triples.hard.sum()),
        "content": int(triples.content.sum()),
        "wide": int((triples.level != DISTRICT).sum()),
        "dropped": settings.triples - len(order),
        "redrawn": redrawn,
        "covisited_pairs": len(covisits),
        "covisit_threshold": covisits.threshold,
        "districts": count,
    }


@ray.remote
def _read_districts(items: Items, part: str) -> PartDistricts:
    return read_districts(items.part(part, COLUMNS))


@ray.remote
def _locate(*parts: PartDistricts) -> tuple[Districts, int]:
    districts = locate(list(parts))
    return districts, len(districts.sizes)


def _draw(layout: Layout, districts: Any, wanted: Wanted) -> DrawnTriples:
    """All triples; `districts` is a reference."""
    shared = ray.put(wanted)
    cells = range(len(layout.groups))
    return concatenate(ray.get([_draw_cell.remote(cell, layout, districts, shared) for cell in cells]))


@ray.remote
def _draw_cell(cell: int, layout: Layout, districts: Districts, wanted: Wanted) -> DrawnTriples:
    own = layout.load(cell)
    anchors, rounds = wanted.near_anchors(own.items)
    pairs = wanted.pairs[np.isin(wanted.pairs[:, 0], own.items)]
    around = neighbourhood(cell, layout.cell_index, layout.load, RANKS)
    draw = CellDraw(own, around, districts, wanted.settings, wanted.seed)
    firsts = range(0, max(len(anchors), len(pairs), 1), ROWS)
    blocks = [slice(first, first + ROWS) for first in firsts]
    return concatenate([draw.triples(anchors[rows], rounds[rows], pairs[rows]) for rows in blocks])


def _find_alike(
    triples: DrawnTriples, embeddings: Embeddings, layout: Layout, districts: Any, seed: int
) -> DrawnTriples:
    """The triples with the i- that resemble their anchor filled in."""
    rows = np.flatnonzero(triples.content)
    if not len(rows):
        return triples
    threshold = layout.threshold(seed, "pool", POOL)
    anchors = ray.put(np.unique(triples.anchor[rows]))
    read: list[Any] = [
        _read_vectors.options(num_returns=2).remote(embeddings, part, anchors, districts, threshold, seed)
        for part in embeddings.parts()
    ]
    pool = _join.remote(*[pooled for _, pooled in read])
    asked = ray.put((triples.anchor[rows], triples.bits(seed, "alike")[rows]))
    negative = triples.negative.copy()
    for where, items in ray.get([_alike.remote(asked, own, pool, districts) for own, _ in read]):
        negative[rows[where]] = items
    # No item of the pool lies elsewhere: drawn like the others.
    filled = replace(triples, negative=negative)
    return _redraw(filled, rows[negative[rows] < 0], districts, seed, 0)


@ray.remote
def _read_vectors(
    embeddings: Embeddings, part: str, anchors: Int64, districts: Districts, threshold: np.uint64 | None, seed: int
) -> tuple[Embedded, Embedded]:
    """Of one part of the embeddings: the anchors' rows, and the pool's."""
    table = embeddings.part(part, ["item_index", "embedding"])
    items, found = table.column("item_index").to_numpy(), vectors(table)
    pooled = districts.code[items] >= 0
    if threshold is not None:
        pooled &= random_bits(seed, "pool", items) <= threshold
    asked = np.isin(items, anchors)
    return Embedded(items[asked], found[asked]), Embedded(items[pooled], found[pooled])


@ray.remote
def _join(*runs: Embedded) -> Embedded:
    return Embedded(np.concatenate([run.items for run in runs]), np.concatenate([run.vectors for run in runs]))


@ray.remote
def _alike(asked: tuple[Int64, UInt64], own: Embedded, pool: Embedded, districts: Districts) -> tuple[Int64, Int64]:
    """Which of the asked triples have their anchor in `own`, whose items ascend, and their i-."""
    anchors, bits = asked
    where = np.flatnonzero(np.isin(anchors, own.items))
    found = [np.empty(0, dtype=np.int64)]
    for first in range(0, len(where), QUERIES):
        rows = where[first : first + QUERIES]
        queries = Embedded(anchors[rows], own.vectors[np.searchsorted(own.items, anchors[rows])])
        found.append(alike_outside(queries, pool, districts, bits[rows]))
    return where, np.concatenate(found)


def _replace_covisited(triples: DrawnTriples, covisits: Covisits, seed: int) -> tuple[DrawnTriples, int]:
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


def _redraw(triples: DrawnTriples, rows: Int64, districts: Any, seed: int, attempt: int) -> DrawnTriples:
    """New i- for some rows, from anywhere outside the anchor's district (of a wide one, its city or province)."""
    some = triples.take(rows)
    drawn = ray.get(_draw_outside.remote(districts, some.anchor, some.bits(seed, f"redraw/{attempt}"), some.level))
    negative, hard, content = triples.negative.copy(), triples.hard.copy(), triples.content.copy()
    negative[rows], hard[rows], content[rows] = drawn, False, False
    return replace(triples, negative=negative, hard=hard, content=content)


@ray.remote
def _draw_outside(districts: Districts, anchors: Int64, bits: UInt64, level: Int64) -> Int64:
    return districts.outside(anchors, bits, level)


def _write(triples: DrawnTriples, out: Triples) -> None:
    table = triples.table()
    out.remove()
    for number, first in enumerate(range(0, len(table), PART_ROWS)):
        out.write(table.slice(first, PART_ROWS), f"part-{number:05d}.parquet")
