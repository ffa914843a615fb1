"""The catalogue stage: read, validate, deduplicate, label, sample, split, number; the driver holds counts only.

scan     one task per file or run of towns: validated rows into buckets by item_id, rejects into the quarantine
settle   one task per bucket: duplicates out, labels filled; the driver learns only counts per district
publish  one task per bucket: split and item_index, one output part; the log's rows find their item here and
         go on into buckets by user_id
log      one task per user bucket: duplicates out, splits by time and by user, one output part
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import ray
from fsspec.core import url_to_fs

from lgsid_ray.artifacts.schemas import INTERACTIONS, ITEMS, conform
from lgsid_ray.catalog import rejects, settle
from lgsid_ray.catalog.readers import discover
from lgsid_ray.catalog.scan import ITEMS_IN, LOG_IN, Unit, bucketed, scan, units
from lgsid_ray.config import RunConfig
from lgsid_ray.config.catalogue import CatalogueConfig, FileSource
from lgsid_ray.draws import random_bits
from lgsid_ray.execution.storage import SCRATCH, StageDir

BUCKET_ROWS = 60_000
BYTES_PER_ROW = {"parquet": 15, "gz": 15, "zip": 15, "": 60}  # a guess that only decides how many buckets there are
LOOKED_AT = 1_000  # items per bucket of which it is seen whether lat and lon are swapped
TIME_SAMPLE = 20_000  # times per bucket from which the time split is read off
_CONTENT = ["name", "brand", "category_1", "category_2", "price", "province", "city", "district", "lat", "lon"]


def source_identities(config: RunConfig) -> list[str]:
    """Path, size and time (or ETag) of every input file; the synthetic world has none."""
    source = config.catalogue.source
    if not isinstance(source, FileSource):
        return []
    files = discover(source.items) + (discover(source.interactions) if source.interactions else [])
    return [f"{file.label} {url_to_fs(file.path)[0].ukey(url_to_fs(file.path)[1])}" for file in files]


def catalogue(config: RunConfig, inputs: Mapping[str, StageDir], out: StageDir) -> dict[str, Any]:
    """Items and log in; `items`, `interactions`, `quarantine.parquet` and `counts.json` out.

    Raises:
        InputError: a file cannot be used, no row is fit, too many are not, lat and lon are
            swapped, or no row of the log is left.
    """
    settings = config.catalogue
    for leftover in ("items", "interactions", SCRATCH):  # of an interrupted call: cheaper made anew than checked
        out.remove(leftover)
    work = out.child(SCRATCH)
    todo = units(settings)
    buckets = _bucket_count(settings, todo)
    tally = _Tally()
    for table, results in _scan_all(todo, settings, work, buckets).items():
        for read, notes in results:
            tally.read[table] += read
            tally.notes.update(notes)
    settled = _tasks(_settle, [(bucket, settings, work) for bucket in range(buckets)], "settle")
    rejects.refuse_exchanged(sum(one["exchanged"] for one in settled), sum(one["looked"] for one in settled))
    places = _added([one["places"] for one in settled])
    tally.left_out["items"] += sum(one["sparse"] for one in settled)
    chosen, threshold = _sample(settings, places, settled)
    kept = {place: count for place, count in places.items() if chosen is None or place in chosen}
    rejects.refuse_unfit(tally.read["items"], tally.left_out["items"], sum(kept.values()), work, settings)
    split = settings.split
    held = settle.choose_districts(kept, split.held_place * sum(kept.values()), settings.seed, "held_place")
    held = held if len(held) < len(kept) else frozenset()
    sizes = [_size(one, chosen, threshold) for one in settled]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    tally.left_out["items"] += sum(places.values()) - int(starts[-1])
    rest = 1 - sum(kept[place] for place in held) / max(1, sum(kept.values()))
    jobs = [
        (bucket, int(starts[bucket]), chosen, threshold, held, split.held_random / rest, settings, work, out, buckets)
        for bucket in range(buckets)
    ]
    published = _tasks(_publish, jobs, "publish")
    tally.left_out["interactions"] += sum(one["left_out"] for one in published)
    limits = _time_limits(published, settings)
    logs = _tasks(_publish_log, [(bucket, settings, limits, work, out) for bucket in range(buckets)], "log")
    _require_parts(out, sum(one["rows"] for one in published), sum(one["rows"] for one in logs))
    facts = _facts(tally, published, logs, rejects.publish(work, out), limits)
    out.write_json("counts.json", facts)
    if any(unit.table == "interactions" for unit in todo) and not facts["interactions_accepted"]:
        rejects.refuse_empty_log(facts, work, out, settings)
    return facts


class _Tally:
    """Row counts by table."""

    def __init__(self) -> None:
        self.read: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()


def _tasks(function: Callable[..., Any], jobs: list[tuple[Any, ...]], name: str) -> list[Any]:
    """Run one task per job and return their results in order."""
    remote = ray.remote(function).options(name=f"catalogue:{name}")
    return list(ray.get([remote.remote(*job) for job in jobs]))


def _bucket_count(config: CatalogueConfig, todo: list[Unit]) -> int:
    if isinstance(config.source, FileSource):
        rows = sum(_guessed_rows(path) for path in {unit.file.path for unit in todo if unit.file})
    else:
        # Impressions make the log several times its clicks.
        rows = max(config.source.items, config.source.users * config.source.events_per_user * 5)
    return int(np.clip(-(-rows // BUCKET_ROWS), 1, 512))


def _guessed_rows(path: str) -> float:
    fs, inner = url_to_fs(path)
    ending = path.lower().rpartition(".")[2]
    return float(fs.size(inner)) / BYTES_PER_ROW.get(ending, BYTES_PER_ROW[""])


def _scan_all(
    todo: list[Unit], config: CatalogueConfig, work: StageDir, buckets: int
) -> dict[str, list[tuple[int, Counter[str]]]]:
    """Stream all units through Ray Data; the driver sees one count per unit."""
    jobs = [{"number": number} for number in range(len(todo))]

    def run(job: dict[str, Any]) -> dict[str, Any]:
        unit, read, notes = todo[job["number"]], 0, Counter[str]()
        for flush, part in enumerate(scan(unit, config)):
            name = f"{job['number']:05d}-{flush:05d}.parquet"
            for bucket, rows in bucketed(part.accepted, "item_id", buckets):
                work.write_table(f"{unit.table}/{bucket:05d}/{name}", rows)
            if len(part.rejects):
                work.write_table(f"quarantine/0-scan-{name}", part.rejects)
            read += part.read
            notes.update(part.notes)
        return {"table": unit.table, "read": read, "notes": dict(notes)}

    found: dict[str, list[tuple[int, Counter[str]]]] = {"items": [], "interactions": []}
    for row in ray.data.from_items(jobs, override_num_blocks=len(jobs)).map(run).iter_rows():
        found[row["table"]].append((row["read"], Counter({k: v for k, v in row["notes"].items() if v})))
    return found


def _read_bucket(work: StageDir, table: str, bucket: int, schema: pa.Schema) -> pa.Table:
    name = f"{table}/{bucket:05d}"
    if not work.exists(name):
        return schema.empty_table()
    return work.read_table(name).cast(schema)


def _settle(bucket: int, config: CatalogueConfig, work: StageDir) -> dict[str, Any]:
    """Remove duplicates and fill labels in one bucket; returns counts per district."""
    frame = _read_bucket(work, "items", bucket, ITEMS_IN).to_pandas()
    frame = frame.sort_values(["item_id", "file", "row"], kind="stable").reset_index(drop=True)
    equal, other = settle.duplicates(frame, ["item_id"], _CONTENT)
    rejects.duplicates(frame, equal, other, "items", "item_id", work, f"1-settle-{bucket:05d}")
    frame = frame[~(equal | other)]
    busy = np.ones(len(frame), dtype=bool)
    if least := _min_interactions(config):
        log = _read_bucket(work, "interactions", bucket, LOG_IN).column("item_id")
        visits = pd.Series(log.to_pandas()).value_counts()
        busy = (frame["item_id"].map(visits).fillna(0) >= least).to_numpy()
    table = settle.fill_labels(pa.Table.from_pandas(frame, ITEMS_IN, preserve_index=False))
    # Items that are too rarely visited stay known, so that their log rows count as left out, not as unknown.
    work.write_table(f"settled/{bucket:05d}.parquet", table.append_column("busy", pa.array(busy)))
    table = table.filter(pa.array(busy))
    lat, lon = (table.column(name).to_numpy()[:LOOKED_AT] for name in ("lat", "lon"))
    keys, counts = np.unique(settle.district_keys(table), return_counts=True)
    random = random_bits(config.seed, "max_items", settle.hashes(table.column("item_id")))
    wanted = _max_items(config)
    smallest = np.sort(random)[:wanted] if wanted is not None else None
    return {
        "places": dict(zip(keys.tolist(), counts.tolist(), strict=True)),
        "sparse": int((~busy).sum()),
        "looked": len(lat),
        "exchanged": settle.count_exchanged(lat, lon) if isinstance(config.source, FileSource) else 0,
        "draws": smallest,
    }


def _min_interactions(config: CatalogueConfig) -> int:
    return config.source.min_interactions if isinstance(config.source, FileSource) else 0


def _max_items(config: CatalogueConfig) -> int | None:
    return config.source.max_items if isinstance(config.source, FileSource) else None


def _added(counts: list[dict[str, int]]) -> dict[str, int]:
    return dict(sum((Counter(one) for one in counts), Counter()))


def _sample(
    config: CatalogueConfig, places: dict[str, int], settled: list[dict[str, Any]]
) -> tuple[frozenset[str] | None, np.uint64 | None]:
    """The districts, or the threshold of the items' draws, that `max_items` keeps; None: all."""
    wanted = _max_items(config)
    if wanted is None or wanted >= sum(places.values()):
        return None, None
    assert isinstance(config.source, FileSource)
    if config.source.sample_by == "district":
        return settle.choose_districts(places, wanted, config.seed, "max_items"), None
    draws = np.concatenate([one["draws"] for one in settled])
    return None, np.partition(draws, wanted - 1)[wanted - 1]


def _size(settled: dict[str, Any], chosen: frozenset[str] | None, threshold: np.uint64 | None) -> int:
    if threshold is not None:
        return int((settled["draws"] <= threshold).sum())
    return sum(count for place, count in settled["places"].items() if chosen is None or place in chosen)


def _publish(
    bucket: int,
    start: int,
    chosen: frozenset[str] | None,
    threshold: np.uint64 | None,
    held: frozenset[str],
    random_share: float,
    config: CatalogueConfig,
    work: StageDir,
    out: StageDir,
    buckets: int,
) -> dict[str, Any]:
    """Number and split the items of one bucket, and send the log's rows on with their item_index."""
    everything = work.read_part(work.path(f"settled/{bucket:05d}.parquet"))
    keep = everything.column("busy").to_numpy().copy()
    if chosen is not None:
        keep &= np.isin(settle.district_keys(everything), list(chosen))
    if threshold is not None:
        keep &= random_bits(config.seed, "max_items", settle.hashes(everything.column("item_id"))) <= threshold
    items = everything.filter(pa.array(keep))
    items = items.append_column("item_index", pa.array(np.arange(start, start + len(items))))
    items = items.append_column(
        "split", pa.array(settle.item_splits(items, held, random_share, config.seed), pa.string())
    )
    if len(items):
        out.write_table(f"items/part-{bucket:05d}.parquet", conform(items, ITEMS, "items"))
    log = _read_bucket(work, "interactions", bucket, LOG_IN)
    known = pc.is_in(log.column("item_id"), value_set=everything.column("item_id").combine_chunks())
    rejects.unknown(log.filter(pc.invert(known)), work, bucket)
    index = pc.index_in(log.column("item_id"), value_set=items.column("item_id").combine_chunks())
    log = log.append_column("item_index", pc.add(pc.cast(index, pa.int64()), start))
    matched = log.filter(pc.is_valid(index))
    for user_bucket, rows in bucketed(matched, "user_id", buckets):
        work.write_table(f"log/{user_bucket:05d}/{bucket:05d}.parquet", rows)
    times = np.sort(matched.column("timestamp").drop_null().to_numpy())
    step = max(1, len(times) // TIME_SAMPLE)
    filled = {level: int(pc.sum(items.column(f"{level}_filled")).as_py() or 0) for level in settle.PLACE}
    return {
        "rows": len(items),
        "splits": dict(Counter(items.column("split").to_pylist())),
        "filled": filled,
        "times": times[::step],
        "weight": step,
        "left_out": int(pc.sum(known).as_py() or 0) - len(matched),
    }


def _time_limits(published: list[dict[str, Any]], config: CatalogueConfig) -> tuple[float, float] | None:
    """The seconds from which on an event is valid, or test; None where no event has a time."""
    times = np.concatenate([one["times"] for one in published])
    if not len(times):
        return None
    weights = np.concatenate([np.full(len(one["times"]), one["weight"]) for one in published])
    order = np.argsort(times, kind="stable")
    share = np.cumsum(weights[order]) / weights.sum()
    test, valid = 1 - config.split.time_test, 1 - config.split.time_test - config.split.time_valid
    first, second = times[order][np.searchsorted(share, [valid, test]).clip(max=len(times) - 1)]
    return float(first), float(second)


def _publish_log(
    bucket: int, config: CatalogueConfig, limits: tuple[float, float] | None, work: StageDir, out: StageDir
) -> dict[str, Any]:
    """Remove duplicates, sort by user and time, and split the log of one user bucket."""
    if not work.exists(f"log/{bucket:05d}"):
        return {"rows": 0, "splits": {}}
    frame = work.read_table(f"log/{bucket:05d}").to_pandas()
    frame = frame.astype({"timestamp": "Int64"})
    frame = frame.sort_values(["user_id", "timestamp", "item_index", "label", "file", "row"], kind="stable")
    frame = frame.reset_index(drop=True)
    equal, _ = settle.duplicates(frame, list(settle.LOG_COLUMNS), [])
    rejects.duplicates(frame, equal, np.zeros_like(equal), "interactions", "", work, f"3-log-{bucket:05d}")
    # A whole chunk of the log without times passed the validation; beside rows with times it is as unfit as one row.
    untimed = frame["timestamp"].isna().to_numpy() & ~equal if limits is not None else np.zeros_like(equal)
    rejects.untimed(frame[untimed], work, bucket)
    frame = settle.log_splits(frame[~equal & ~untimed].reset_index(drop=True), config.split, limits, config.seed)
    columns = {f.name: pa.array(frame[f.name], f.type, from_pandas=True) for f in INTERACTIONS}
    out.write_table(f"interactions/part-{bucket:05d}.parquet", pa.table(columns, schema=INTERACTIONS))
    return {"rows": len(frame), "splits": frame["rank_split"].value_counts().to_dict()}


def _require_parts(out: StageDir, items: int, log: int) -> None:
    """An empty log still is a table."""
    assert items > 0, "refused before"
    if not log:
        out.write_table("interactions/part-00000.parquet", INTERACTIONS.empty_table())


def _facts(
    tally: _Tally,
    published: list[dict[str, Any]],
    logs: list[dict[str, Any]],
    reasons: Counter[tuple[str, str]],
    limits: tuple[float, float] | None,
) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for table, accepted in (("items", published), ("interactions", logs)):
        by_reason = {reason: count for (name, reason), count in sorted(reasons.items()) if name == table}
        rows = sum(one["rows"] for one in accepted)
        facts |= {
            f"{table}_read": tally.read[table],
            f"{table}_accepted": rows,
            f"{table}_left_out": tally.left_out[table],
            f"{table}_quarantined": sum(by_reason.values()),
            f"{table}_quarantined_by_reason": by_reason,
        }
        assert rows + tally.left_out[table] + sum(by_reason.values()) == tally.read[table], f"{table} rows went missing"
    facts["filled"] = {level: sum(one["filled"][level] for one in published) for level in settle.PLACE}
    facts["item_splits"] = _added([one["splits"] for one in published])
    facts["rank_splits"] = _added([one["splits"] for one in logs])
    facts["timed"] = limits is not None
    facts["notes"] = dict(tally.notes)
    return facts
