"""Items by their SIDs, a bucket at a time: what one task does. What is told to the driver is small.

    count    one task: the training popularity of all items, a part per span
    look     a task per span: how often each code occurs, and some SIDs, by which buckets are cut
    spread   a task per span: its rows into buckets
    settle   a task per bucket: order and ranks within each SID, a part of `inverse.parquet`; ranks go back by span
    publish  a task per span: a part of `sids.parquet`

Buckets are ranges of SIDs, so all items of a SID are in one, and the parts of the inverse table ascend as SIDs do. No
result depends on where buckets begin.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import AnyInt, Int64
from lgsid_ray.artifacts import Interactions, Inverse, Sids, Trie
from lgsid_ray.artifacts.keys import pack_sids
from lgsid_ray.artifacts.table import lists, matrix
from lgsid_ray.execution.storage import SCRATCH, StageDir
from lgsid_ray.tokenizer.codec import sid_texts
from lgsid_ray.tokenizer.collisions import (
    Crowd,
    Held,
    crowds,
    group_starts,
    held_by_prefixes,
    inverse_table,
    ranks_within,
    sid_order,
)
from lgsid_ray.tokenizer.encoded import Encoded, part

RESOLVING = f"{SCRATCH}/resolving"
_POPULARITY, _SPREAD, _RANKS = f"{RESOLVING}/popularity", f"{RESOLVING}/spread", f"{RESOLVING}/ranks"
FULLEST = 10
"""SIDs with most items that are told of."""


@dataclass(frozen=True)
class Site:
    """What every task of a call shares.

    Attributes:
        catalogue, out: folders. encoded: the items' tokens. sizes: codes of each level.
    """

    catalogue: StageDir
    out: StageDir
    encoded: Encoded
    sizes: list[int]


@dataclass(frozen=True)
class Seen:
    """What the driver learns of a span.

    Attributes:
        counts: per level, (size,) how many items have each code. chosen: how many chose it, had they not to share.
        sample: (s,) some of their SIDs.
    """

    counts: list[Int64]
    chosen: list[Int64]
    sample: Int64


@dataclass(frozen=True)
class Settled:
    """What the driver learns of a bucket: how many items stand behind prefixes of each length, and its fullest SIDs."""

    held: list[Held]
    fullest: list[Crowd]


def count(site: Site) -> None:
    """Training popularity by span; this task holds 16 bytes an item."""
    popularity = Interactions(site.catalogue).popularity(site.encoded.items)
    for span, counts in enumerate(np.split(popularity, site.encoded.starts[1:-1])):
        site.out.write_table(f"{_POPULARITY}/{part(span)}", pa.table({"popularity": counts}))


def look(span: int, site: Site, every: int) -> Seen:
    """Codes of a span, and of its ascending SIDs one in so many."""
    _, tokens = site.encoded.read(span)
    counts, chosen = (
        [np.bincount(column, minlength=size) for column, size in zip(given.T, site.sizes, strict=True)]
        for given in (tokens, site.encoded.chosen(span))
    )
    return Seen(counts, chosen, np.sort(pack_sids(tokens, site.sizes))[every // 2 :: every])


def spread(span: int, site: Site, starts: Int64) -> None:
    """The rows of a span into the buckets that begin with the SIDs `starts`."""
    rows, tokens = site.encoded.read(span)
    keys = pack_sids(tokens, site.sizes)
    popularity = site.out.read_part(site.out.path(f"{_POPULARITY}/{part(span)}")).column("popularity")
    rows = rows.append_column("popularity", popularity).append_column("key", pa.array(keys))
    _scatter(rows, np.searchsorted(starts, keys, side="right"), site.out, _SPREAD, span)


def settle(bucket: int, site: Site) -> Settled:
    """Order and rank the items of a bucket, and write its part of the inverse table."""
    rows = site.out.read_table(f"{_SPREAD}/{bucket}")
    rows = rows.take(pa.array(sid_order(rows)))
    keys, index = rows.column("key").to_numpy(), rows.column("item_index").to_numpy()
    Inverse(site.out).write(inverse_table(rows, site.sizes), part(bucket))
    ranks = pa.table({"item_index": index, "rank": ranks_within(group_starts(keys))})
    _scatter(ranks, site.encoded.spans_of(index), site.out, _RANKS, bucket)
    return Settled(held_by_prefixes(keys, site.sizes), crowds(keys, index, FULLEST))


def publish(span: int, site: Site, disambiguate: bool) -> None:
    """The SIDs of a span, in item order; their texts with or without ranks."""
    rows, tokens = site.encoded.read(span)
    found = site.out.read_table(f"{_RANKS}/{span}")
    ranks = np.empty(len(rows), dtype=np.int32)
    ranks[found.column("item_index").to_numpy() - site.encoded.starts[span]] = found.column("rank").to_numpy()
    rows = rows.append_column("tokens", lists(tokens, pa.int32())).append_column("collision", pa.array(ranks))
    rows = rows.append_column("sid", sid_texts(tokens, ranks if disambiguate else np.zeros_like(ranks)))
    Sids(site.out).write(rows, part(span))


def build_trie(out: StageDir, ranked: bool) -> None:
    """The trie of the inverse table; this task holds some 30 bytes a node, of which there are one to three an item.

    Args:
        ranked: items share SIDs, so their ranks stand behind the tokens.
    """
    Trie.of_runs(_sid_runs(Inverse(out), ranked)).save(out)


def _sid_runs(inverse: Inverse, ranked: bool) -> Iterator[tuple[AnyInt, Int64]]:
    """Part by part, in the order of SIDs: (m, L) tokens of items, or (m, L + 1) with their ranks, and item_index."""
    for table in inverse.scan(["tokens", "item_index"]):
        items = table.column("item_index").combine_chunks()
        starts = items.offsets.to_numpy()
        tokens = np.repeat(matrix(table.column("tokens")), np.diff(starts), axis=0)
        yield np.column_stack([tokens, ranks_within(starts)]) if ranked else tokens, items.flatten().to_numpy()


def _scatter(rows: pa.Table, where: Int64, out: StageDir, folder: str, number: int) -> None:
    """Write the rows that go to one place into a part of its own, named by where they come from."""
    order = np.argsort(where, kind="stable")
    rows, where = rows.take(pa.array(order)), where[order]
    for begin, end in pairwise(group_starts(where).tolist()):
        out.write_table(f"{folder}/{where[begin]}/{part(number)}", rows.slice(begin, end - begin))
