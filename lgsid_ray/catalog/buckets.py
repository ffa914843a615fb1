"""What one task does with one bucket: settle its items, publish them, publish its users' log.

A bucket holds the items, and the log rows, of which the hash of the item_id is the same; later, of the user_id.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Bool, UInt64
from lgsid_ray.artifacts import Interactions, Items
from lgsid_ray.artifacts.labels import LEVELS, label_paths
from lgsid_ray.catalog import rejects, settle
from lgsid_ray.catalog.scan import ITEMS_IN, LOG_IN, bucketed
from lgsid_ray.config.catalogue import CatalogueConfig, FileSource
from lgsid_ray.draws import random_bits
from lgsid_ray.execution.storage import StageDir

LOOKED_AT = 1_000  # items per bucket of which it is seen whether lat and lon are swapped
TIME_SAMPLE = 20_000  # times per bucket from which the time split is read off
_CONTENT = ["name", "brand", "category_1", "category_2", "price", "province", "city", "district", "lat", "lon"]


@dataclass(frozen=True)
class Site:
    """What every task of a call shares. `work` holds what only the call itself needs."""

    config: CatalogueConfig
    work: StageDir
    out: StageDir
    buckets: int
    located: bool
    """Whether any row has coordinates: then every item must have them."""

    @property
    def files(self) -> FileSource | None:
        """The source where it is files; None: the synthetic world."""
        return self.config.source if isinstance(self.config.source, FileSource) else None

    def read(self, table: str, bucket: int, schema: pa.Schema) -> pa.Table:
        """The validated rows of a bucket."""
        name = f"{table}/{bucket:05d}"
        return self.work.read_table(name).cast(schema) if self.work.exists(name) else schema.empty_table()


@dataclass(frozen=True)
class Settled:
    """What the driver learns of a settled bucket."""

    rows: int
    places: dict[str, int]
    """Items by label path, of those that have one."""
    sparse: int
    """Items with fewer rows in the log than `min_interactions`."""
    looked: int
    exchanged: int
    """How many of `looked` items have lat and lon in each other's place, by the look of it."""
    draws: UInt64 | None
    """The smallest draws of its items, ascending, as many as `max_items`; None: all items stay."""


@dataclass(frozen=True)
class Choice:
    """Which items enter, and which of those are held out; the same for every bucket."""

    districts: frozenset[str] | None
    """None: not chosen by district."""
    threshold: np.uint64 | None
    """Largest draw that enters; None: not chosen by item."""
    held: settle.Held
    held_random: float
    """Share of the items outside `held`."""

    def admits(self, items: pa.Table, seed: int) -> Bool:
        """(n,) which settled items enter."""
        keep = items.column("busy").to_numpy().copy()
        if self.districts is not None:
            keep &= settle.within(items, self.districts)
        if self.threshold is not None:
            keep &= _draws(items, seed) <= self.threshold
        return np.asarray(keep, dtype=bool)

    def size(self, bucket: Settled) -> int:
        """How many items of a bucket enter."""
        if self.threshold is not None and bucket.draws is not None:
            return int((bucket.draws <= self.threshold).sum())
        if self.districts is not None:
            return sum(count for place, count in bucket.places.items() if place in self.districts)
        return bucket.rows


def settle_items(bucket: int, site: Site) -> Settled:
    """Remove what is unplaced and what is there twice, and fill labels, in one bucket."""
    frame = site.read("items", bucket, ITEMS_IN).to_pandas()
    if site.located:
        lost = frame["lat"].isna()
        rejects.unplaced(frame[lost], site.work, bucket)
        frame = frame[~lost]
    frame = frame.sort_values(["item_id", "file", "row"], kind="stable").reset_index(drop=True)
    equal, other = settle.duplicates(frame, ["item_id"], _CONTENT)
    rejects.duplicates(frame, equal, other, "items", "item_id", site.work, f"1-settle-{bucket:05d}")
    frame = frame[~(equal | other)]
    busy = np.ones(len(frame), dtype=bool)
    if site.files and site.files.min_interactions:
        log = site.read("interactions", bucket, LOG_IN).column("item_id")
        visits = pd.Series(log.to_pandas()).value_counts()
        busy = (frame["item_id"].map(visits).fillna(0) >= site.files.min_interactions).to_numpy()
    table = settle.fill_labels(pa.Table.from_pandas(frame, ITEMS_IN, preserve_index=False), site.located)
    # Items that are too rarely visited stay known, so that their log rows count as left out, not as unknown.
    site.work.write_table(f"settled/{bucket:05d}.parquet", table.append_column("busy", pa.array(busy)))
    table = table.filter(pa.array(busy))
    looked = min(len(table), LOOKED_AT) if site.files and site.located else 0
    lat, lon = (table.column(name).to_numpy()[:looked] for name in ("lat", "lon"))
    wanted = site.files.max_items if site.files else None
    return Settled(
        rows=len(table),
        places=dict(Counter(label_paths(table).drop_null().to_pylist())),
        sparse=int((~busy).sum()),
        looked=looked,
        exchanged=settle.count_exchanged(lat, lon),
        draws=None if wanted is None else np.sort(_draws(table, site.config.seed))[:wanted],
    )


def publish_items(bucket: int, start: int, choice: Choice, site: Site) -> dict[str, Any]:
    """Number and split the items of one bucket, and send the log's rows on with their item_index."""
    everything = site.work.read_part(site.work.path(f"settled/{bucket:05d}.parquet"))
    items = everything.filter(pa.array(choice.admits(everything, site.config.seed)))
    splits = settle.item_splits(items, choice.held, choice.held_random, site.config.seed)
    items = items.append_column("item_index", pa.array(np.arange(start, start + len(items))))
    items = items.append_column("split", pa.array(splits, pa.string()))
    if len(items):
        Items(site.out).write(items, f"part-{bucket:05d}.parquet")
    log = site.read("interactions", bucket, LOG_IN)
    known = pc.is_in(log.column("item_id"), value_set=everything.column("item_id").combine_chunks())
    rejects.unknown(log.filter(pc.invert(known)), site.work, bucket)
    index = pc.index_in(log.column("item_id"), value_set=items.column("item_id").combine_chunks())
    log = log.append_column("item_index", pc.add(pc.cast(index, pa.int64()), start))
    matched = log.filter(pc.is_valid(index))
    for user_bucket, rows in bucketed(matched, "user_id", site.buckets):
        site.work.write_table(f"log/{user_bucket:05d}/{bucket:05d}.parquet", rows)
    times = np.sort(matched.column("timestamp").drop_null().to_numpy())
    step = max(1, len(times) // TIME_SAMPLE)
    return {
        "rows": len(items),
        "splits": dict(Counter(splits)),
        "districts": pc.unique(label_paths(items.filter(pc.equal(items.column("split"), "train"))))
        .drop_null()
        .to_pylist(),
        "filled": {level: int(pc.sum(items.column(f"{level}_filled")).as_py() or 0) for level in LEVELS},
        "times": times[::step],
        "weight": step,
        "left_out": int(pc.sum(known).as_py() or 0) - len(matched),
    }


def publish_log(bucket: int, limits: tuple[float, float] | None, site: Site) -> dict[str, Any]:
    """Remove duplicates, sort by user and time, and split the log of one user bucket."""
    if not site.work.exists(f"log/{bucket:05d}"):
        return {"rows": 0, "splits": {}}
    frame = site.work.read_table(f"log/{bucket:05d}").to_pandas()
    frame = frame.astype({"timestamp": "Int64"})
    frame = frame.sort_values(["user_id", "timestamp", "item_index", "label", "file", "row"], kind="stable")
    frame = frame.reset_index(drop=True)
    equal, _ = settle.duplicates(frame, list(settle.LOG_COLUMNS), [])
    rejects.duplicates(frame, equal, np.zeros_like(equal), "interactions", "", site.work, f"3-log-{bucket:05d}")
    # A whole chunk of the log without times passed the validation; beside rows with times it is as unfit as one row.
    untimed = frame["timestamp"].isna().to_numpy() & ~equal if limits is not None else np.zeros_like(equal)
    rejects.untimed(frame[untimed], site.work, bucket)
    split = site.config.split
    frame = settle.log_splits(frame[~equal & ~untimed].reset_index(drop=True), split, limits, site.config.seed)
    columns = {f.name: pa.array(frame[f.name], f.type, from_pandas=True) for f in Interactions.schema}
    Interactions(site.out).write(pa.table(columns), f"part-{bucket:05d}.parquet")
    return {"rows": len(frame), "splits": frame["rank_split"].value_counts().to_dict()}


def _draws(items: pa.Table, seed: int) -> UInt64:
    return random_bits(seed, "max_items", settle.hashes(items.column("item_id")))
