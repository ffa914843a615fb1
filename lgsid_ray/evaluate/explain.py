"""What an item's SID says: for each prefix who shares it, who of them is nearest, and what tells them from others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.artifacts import Embeddings, Items, Sids
from lgsid_ray.artifacts.embeddings import vectors
from lgsid_ray.evaluate.kin import Kin, Subject, kin_of, subjects
from lgsid_ray.evaluate.traits import Background, Traits, background, spelled, telling, traits
from lgsid_ray.geo.distance import haversine_km

SIBLINGS, SAID = 6, 6
"""How many are shown of each prefix."""


@dataclass(frozen=True)
class Said:
    """A trait that is commoner among the items of a prefix than among others.

    Attributes:
        inside, outside: share of the items of either group that have it. z: see `traits.telling`.
    """

    field: str
    value: str
    inside: float
    outside: float
    z: float


@dataclass(frozen=True)
class Sibling:
    """An item that shares this prefix and no longer one: its fields, its distance, and the cosine of the embeddings."""

    item: dict[str, Any]
    km: float | None
    similarity: float


@dataclass(frozen=True)
class Prefix:
    """One of an item's prefixes.

    Attributes:
        items: how many share it. of: how many share the one before; at level 1, the items of the catalogue.
        half_km: half of the others lie within so many km of the item; None without coordinates, or others.
        said: what tells its items from the others of the prefix before, at level 1 of the catalogue.
    """

    items: int
    of: int
    half_km: float | None
    said: list[Said]
    siblings: list[Sibling]


@dataclass(frozen=True)
class Explanation:
    """Of one item: its tokens and text form, its fields, and a Prefix for each of its levels."""

    subject: Subject
    item: dict[str, Any]
    prefixes: list[Prefix]


def explain(items: Items, sids: Sids, embeddings: Embeddings, wanted: Sequence[str]) -> dict[str, Explanation]:
    """By item_id, of those of the items `wanted` that there are.

    SIDs, items and embeddings are read part by part; in memory are the fields of the kin, which are as many as level 1
    gives one code. Without coordinates the nearest are those most alike, and the embeddings of all kin are read.
    """
    asked = list(subjects(sids, wanted).values())
    if not asked:
        return {}
    kin = kin_of(sids, asked)
    near = pa.concat_tables(list(items.among(np.unique(np.concatenate([one.index for one in kin])))))
    near = near.sort_by("item_index").combine_chunks()
    found = traits(near)
    whole = background(items, found.names)
    return {
        subject.item_id: _explained(subject, one, near, found, whole, embeddings)
        for subject, one in zip(asked, kin, strict=True)
    }


def _explained(
    subject: Subject, kin: Kin, near: pa.Table, found: Traits, whole: Background, embeddings: Embeddings
) -> Explanation:
    rows = np.searchsorted(near.column("item_index").to_numpy(), kin.index)
    me = int(np.searchsorted(kin.index, subject.index))
    km = _kilometres(near.take(pa.array(rows)), me)
    chosen = _nearest(kin, me, km if km is not None else -_cosines(embeddings, kin.index, me))
    flat = np.concatenate(chosen).astype(np.int64)
    alike = dict(zip(flat.tolist(), _cosines(embeddings, kin.index, me, flat).tolist(), strict=True))
    prefixes: list[Prefix] = []
    of, around, total = whole.items, whole.counts, whole.total
    for length in range(1, len(subject.tokens) + 1):
        members = kin.depth >= length
        held, inside = int(members.sum()), found.among(rows[members])
        siblings = [
            Sibling(near.slice(rows[place], 1).to_pylist()[0], None if km is None else float(km[place]), alike[place])
            for place in chosen[length - 1].tolist()
        ]
        others = np.flatnonzero(members)[np.flatnonzero(members) != me]
        half = float(np.median(km[others])) if km is not None and len(others) else None
        prefixes.append(Prefix(held, of, half, _said(found.names, inside, around, total, held, of), siblings))
        of, around, total = held, inside, int(inside.sum())
    return Explanation(subject, near.slice(rows[me], 1).to_pylist()[0], prefixes)


def _said(names: pa.Array, inside: Int64, around: Int64, total: int, held: int, of: int) -> list[Said]:
    """Of traits that so many of the `held` items of a prefix have, and of the `of` items of the one before."""
    if held == of:
        return []
    said = []
    for place, z in zip(*telling(inside, around, of, total), strict=True):
        outside = (around[place] - inside[place]) / (of - held)
        field, value = spelled(names[int(place)].as_py())
        said.append(Said(field, value, float(inside[place] / held), float(outside), float(z)))
    return said[:SAID]


def _kilometres(kin: pa.Table, me: int) -> Float64 | None:
    """(m,) from the item; None without coordinates."""
    lat, lon = (kin.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in ("lat", "lon"))
    return None if np.isnan(lat).any() else haversine_km(lat[me], lon[me], lat, lon)


def _nearest(kin: Kin, me: int, distance: Float64 | Float32) -> list[Int64]:
    """Of each prefix the places in `kin` of the nearest that share it and no longer one, the item itself left out."""
    others = np.arange(len(kin.index)) != me
    groups = [np.flatnonzero((kin.depth == length) & others) for length in range(1, int(kin.depth[me]) + 1)]
    return [rows[np.argsort(distance[rows], kind="stable")[:SIBLINGS]] for rows in groups]


def _cosines(embeddings: Embeddings, index: Int64, me: int, places: Int64 | None = None) -> Float32:
    """Of the items index[places] (None: all) with item index[me]; only parts that hold one of them are read whole."""
    wanted = index if places is None else index[places]
    found = np.zeros(len(wanted), dtype=np.float32)
    _, (mine,) = next(_vectors(embeddings, index[me : me + 1]))
    order = np.argsort(wanted)
    for keys, rows in _vectors(embeddings, wanted):
        found[order[np.searchsorted(wanted[order], keys)]] = rows @ mine
    return found


def _vectors(embeddings: Embeddings, wanted: Int64) -> Iterator[tuple[Int64, Float32]]:
    """item_index and embeddings of the wanted items, part by part."""
    for part in embeddings.parts():
        here = np.isin(embeddings.part(part, ["item_index"]).column("item_index").to_numpy(), wanted)
        if here.any():
            table = embeddings.part(part, ["item_index", "embedding"]).filter(pa.array(here))
            yield table.column("item_index").to_numpy(), vectors(table)
