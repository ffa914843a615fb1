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

from lgsid_ray.config import RunConfig
from lgsid_ray.config.preference import PreferenceConfig
from lgsid_ray.draws import Words, words
from lgsid_ray.geo.layout.stage import Layout, lay_labels, lay_out
from lgsid_ray.geo.locations import DISTRICT, Locations
from lgsid_ray.geo.neighbourhood import World, neighbourhood
from lgsid_ray.geo.places import Gathered, Integers
from lgsid_ray.preference.covisits.stage import Covisits, count_covisits
from lgsid_ray.preference.opponents import alike_outside
from lgsid_ray.preference.triples import RANKS, Triples, draw
from lgsid_ray.preference.triples import concatenate as concatenate_triples
from lgsid_ray.storage import StageDir

POOL = 8_192  # training items that opponents of the reference space are taken from
ROWS = 16_384  # triples that are drawn at once
QUERIES = 512  # anchors that are compared with the pool at once
PART_ROWS = 131_072
REDRAWS = 8
TABLE = "triples"


def prefer(config: RunConfig, inputs: Mapping[str, StageDir], out: StageDir) -> dict[str, Any]:
    """Write `triples`: catalogue and reference embeddings in, training items only.

    Raises:
        InputError: fewer than two locations, or two places, to prefer between.
    """
    settings, seed, catalogue = config.preference, config.seed, inputs["catalogue"]
    layout = lay_out(catalogue, seed)
    locations, count = lay_labels(catalogue)
    covisits = count_covisits(catalogue, locations, settings)
    wanted = round(settings.triples * settings.collaborative)
    pairs = covisits.choose(wanted, seed)
    triples = _draw_all(layout, locations, pairs, settings, seed)
    triples = _find_alike(triples, inputs["embed"], layout, locations, seed)
    triples, redrawn = _replace_covisited(triples, covisits, seed)
    order = np.lexsort((triples.positive, triples.anchor, triples.words(seed, "order")))
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
        "locations": count,
    }


def _draw_all(layout: Layout, locations: Any, pairs: Integers, settings: PreferenceConfig, seed: int) -> Triples:
    """All triples; near anchors are every training item equally often, the remainder by a seeded sub-sample."""
    repeats, rest = divmod(settings.triples - len(pairs), layout.items)
    threshold = layout.threshold(seed, "near", rest) if rest else None
    shared = ray.put(pairs)
    tasks = [
        _draw_cell.remote(cell, layout.world, layout.groups, locations, shared, repeats, threshold, settings, seed)
        for cell in range(len(layout.groups))
    ]
    return concatenate_triples(ray.get(tasks))


@ray.remote
def _draw_cell(
    cell: int,
    world: World,
    groups: list[Any],
    locations: Locations,
    pairs: Integers,
    repeats: int,
    threshold: np.uint64 | None,
    settings: PreferenceConfig,
    seed: int,
) -> Triples:
    own: Gathered = ray.get(groups[cell])
    extra = own.items[:0] if threshold is None else own.items[words(seed, "near", own.items) <= threshold]
    anchors = np.concatenate([np.tile(own.items, repeats), extra])
    rounds = np.concatenate([np.repeat(np.arange(repeats), len(own.items)), np.full(len(extra), repeats)])
    mine = pairs[np.isin(pairs[:, 0], own.items)]
    around = neighbourhood(cell, world, lambda other: ray.get(groups[other]), RANKS)
    runs = []
    for first in range(0, max(len(anchors), len(mine), 1), ROWS):
        rows = slice(first, first + ROWS)
        runs.append(draw(anchors[rows], rounds[rows], mine[rows], own, around, locations, settings, seed))
    return concatenate_triples(runs)


def _find_alike(triples: Triples, embed: StageDir, layout: Layout, locations: Any, seed: int) -> Triples:
    """The triples with the i- that resemble their anchor filled in."""
    rows = np.flatnonzero(triples.content)
    if not len(rows):
        return triples
    threshold = layout.threshold(seed, "pool", POOL)
    anchors = ray.put(np.unique(triples.anchor[rows]))
    read: list[Any] = [
        _read_vectors.options(num_returns=2).remote(embed, part, anchors, locations, threshold, seed)
        for part in embed.parts("embeddings")
    ]
    pool = _join_vectors.remote(*[pooled for _, pooled in read])
    asked = ray.put((triples.anchor[rows], triples.words(seed, "alike")[rows]))
    found = ray.get([_alike.remote(asked, vectors, pool, locations) for vectors, _ in read])
    negative = triples.negative.copy()
    for where, items in found:
        negative[rows[where]] = items
    # No item of the pool lies elsewhere: drawn like the others.
    filled = replace(triples, negative=negative)
    return _redraw(filled, rows[negative[rows] < 0], locations, seed, 0)


Vectors = tuple[Integers, Any]
"""item_index ascending, and the (n, d) float32 rows."""


@ray.remote
def _read_vectors(
    embed: StageDir, part: str, anchors: Integers, locations: Locations, threshold: np.uint64 | None, seed: int
) -> tuple[Vectors, Vectors]:
    """Of one part of the embeddings: the anchors' rows, and the pool's."""
    table = embed.read_part(part, ["item_index", "embedding"])
    items = table.column("item_index").to_numpy()
    vectors = table.column("embedding").combine_chunks().flatten().to_numpy().reshape(len(items), -1)
    pooled = locations.code[items] >= 0
    if threshold is not None:
        pooled &= words(seed, "pool", items) <= threshold
    asked = np.isin(items, anchors)
    return (items[asked], vectors[asked]), (items[pooled], vectors[pooled])


@ray.remote
def _join_vectors(*runs: Vectors) -> Vectors:
    return np.concatenate([items for items, _ in runs]), np.concatenate([vectors for _, vectors in runs])


@ray.remote
def _alike(asked: tuple[Integers, Any], own: Vectors, pool: Vectors, locations: Locations) -> tuple[Integers, Integers]:
    """Which of the asked triples have their anchor in `own`, and their i-."""
    anchors, bits = asked
    items, vectors = own
    where = np.flatnonzero(np.isin(anchors, items))
    found = [np.empty(0, dtype=np.int64)]
    for first in range(0, len(where), QUERIES):
        rows = where[first : first + QUERIES]
        queries = vectors[np.searchsorted(items, anchors[rows])]
        found.append(alike_outside(anchors[rows], queries, *pool, locations, bits[rows]))
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
        triples = _redraw(triples, rows, covisits.locations, seed, attempt)
        redrawn += len(rows)
    return triples, redrawn


def _redraw(triples: Triples, rows: Integers, locations: Any, seed: int, attempt: int) -> Triples:
    """New i- for some rows, from anywhere outside the anchor's location (of a wide one, its city or province)."""
    some = triples.take(rows)
    drawn = ray.get(_draw_outside.remote(locations, some.anchor, some.words(seed, f"redraw/{attempt}"), some.level))
    negative, hard, content = triples.negative.copy(), triples.hard.copy(), triples.content.copy()
    negative[rows], hard[rows], content[rows] = drawn, False, False
    return replace(triples, negative=negative, hard=hard, content=content)


@ray.remote
def _draw_outside(locations: Locations, anchors: Integers, bits: Words, level: Integers) -> Integers:
    return locations.outside(anchors, bits, level)
