"""The catalogue stage: read, validate, deduplicate, label, sample, split, number; the driver holds counts only.

scan     one task per file or run of towns: validated rows into buckets by item_id, rejects into the quarantine
settle   one task per bucket: unplaced items and duplicates out, labels filled; the driver learns counts by district
publish  one task per bucket: split and item_index, one output part; the log's rows find their item here and
         go on into buckets by user_id
log      one task per user bucket: duplicates out, splits by time and by user, one output part
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray
from fsspec.core import url_to_fs

from lgsid_ray.artifacts import Interactions, Items
from lgsid_ray.artifacts.labels import LEVELS, SEPARATOR
from lgsid_ray.catalog import buckets, rejects, settle
from lgsid_ray.catalog.buckets import Choice, Settled, Site
from lgsid_ray.catalog.scan import Unit, bucketed, scan, units
from lgsid_ray.catalog.sources import discover, identity
from lgsid_ray.config import RunConfig
from lgsid_ray.config.catalogue import CatalogueConfig, FileSource
from lgsid_ray.errors import InputError
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import SCRATCH, StageDir
from lgsid_ray.execution.stream import rows_of

TABLES = ("items", "interactions")
BUCKET_ROWS = 60_000
BYTES_PER_ROW = {"parquet": 15, "gz": 15, "zip": 15, "": 60}  # a guess that only decides how many buckets there are


def source_identities(config: RunConfig) -> list[str]:
    """What tells that an input file has changed, file by file; the synthetic world has none.

    Raises:
        InputError: a file is not there, or its server does not tell.
    """
    source = config.catalogue.source
    if not isinstance(source, FileSource):
        return []
    files = discover(source.items) + (discover(source.interactions) if source.interactions else [])
    return [identity(file) for file in files]


def catalogue(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Items and log in; `items`, `interactions`, `quarantine.parquet` and `counts.json` out.

    Raises:
        InputError: a file cannot be used, no row is fit, too many are not, lat and lon are swapped, there are no
            districts to sample by, or too little of the log is left.
    """
    settings = config.catalogue
    for leftover in (Items.name, Interactions.name, SCRATCH):  # of an interrupted call: cheaper made anew than checked
        out.remove(leftover)
    work = out.child(SCRATCH)
    todo = units(settings)
    count = _bucket_count(settings, todo)
    scanned = _scan_all(todo, settings, work, count)
    site = Site(settings, work, out, count, any(one["located"] for one in scanned))
    settled = _tasks(buckets.settle_items, [(bucket, site) for bucket in range(count)], "settle")
    rejects.refuse_exchanged(sum(one.exchanged for one in settled), sum(one.looked for one in settled))
    choice = _choose(settled, site, sum(one["read"] for one in scanned if one["table"] == "items"))
    starts = np.concatenate([[0], np.cumsum([choice.size(one) for one in settled])]).tolist()
    jobs = [(bucket, starts[bucket], choice, site) for bucket in range(count)]
    published = _tasks(buckets.publish_items, jobs, "publish")
    limits = _time_limits(published, settings)
    logs = _tasks(buckets.publish_log, [(bucket, limits, site) for bucket in range(count)], "log")
    if not any(one["rows"] for one in logs):  # an empty log still is a table
        Interactions(out).write(Interactions.schema.empty_table(), "part-00000.parquet")
    left_out = {
        "items": sum(one.sparse + one.rows for one in settled) - starts[-1],
        "interactions": sum(one["left_out"] for one in published),
    }
    facts = _counts(scanned, left_out, published, logs, rejects.publish(work, out))
    facts |= {
        "located": site.located,
        "training_districts": len({place for one in published for place in one["districts"]}),
        "filled": {level: sum(one["filled"][level] for one in published) for level in LEVELS},
        "item_splits": _added([one["splits"] for one in published]),
        "rank_splits": _added([one["splits"] for one in logs]),
        "timed": limits is not None,
        "notes": _added([one["notes"] for one in scanned]),
    }
    if settings.split.held_place + settings.split.held_city and not any(one.places for one in settled):
        facts["held_place_left_out"] = "no item has a province, city and district"
    out.write_json("counts.json", facts)
    if any(unit.table == "interactions" for unit in todo) and not facts["interactions_accepted"]:
        rejects.refuse_empty_log(facts, work, out, settings)
    rejects.refuse_lost_log(facts, out, settings)
    return facts


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
    return float(fs.size(inner) or 0) / BYTES_PER_ROW.get(ending, BYTES_PER_ROW[""])


def _scan_all(todo: list[Unit], config: CatalogueConfig, work: StageDir, count: int) -> list[dict[str, Any]]:
    """Stream all units through Ray Data; the driver sees their counts.

    Raises:
        InputError: some files have coordinates, and others no columns for them, or the tables' item ids differ in kind.
    """

    def run(job: dict[str, Any]) -> dict[str, Any]:
        unit, read, notes, forms = todo[job["number"]], 0, Counter[str](), Counter[str]()
        coordinates = located = False
        for flush, part in enumerate(scan(unit, config)):
            name = f"{job['number']:05d}-{flush:05d}.parquet"
            for bucket, rows in bucketed(part.accepted, "item_id", count):
                work.write_table(f"{unit.table}/{bucket:05d}/{name}", rows)
            if len(part.rejects):
                work.write_table(f"quarantine/0-scan-{name}", part.rejects)
            read += part.read
            notes.update(part.notes)
            forms.update(part.id_forms)
            coordinates, located = coordinates or part.coordinates, located or part.located
        return job | {
            "table": unit.table,
            "read": read,
            "notes": dict(notes),
            "id_forms": dict(forms),
            "coordinates": coordinates,
            "located": located,
        }

    jobs = [{"number": number} for number in range(len(todo))]
    done = rows_of(ray.data.from_items(jobs, override_num_blocks=len(jobs)).map(run))
    found = sorted(done, key=lambda one: int(one["number"]))
    for one in found:  # Ray's rows all have the entries of any
        one |= {name: {key: times for key, times in one[name].items() if times} for name in ("notes", "id_forms")}
    files = [(todo[one["number"]].file, one) for one in found if one["table"] == "items"]
    rejects.refuse_discord(
        [file.label for file, one in files if file and not one["coordinates"]],
        [file.label for file, one in files if file and one["located"]],
    )
    forms = {table: _added([one["id_forms"] for one in found if one["table"] == table]) for table in TABLES}
    rejects.refuse_other_keys(*(Counter(forms[table]) for table in TABLES))
    return found


def _choose(settled: Sequence[Settled], site: Site, read: int) -> Choice:
    """What `max_items` keeps, and which districts are held out.

    Raises:
        InputError: there are no districts to sample by, or too little is left of `read` rows.
    """
    config, split = site.config, site.config.split
    places, total = _added([one.places for one in settled]), sum(one.rows for one in settled)
    districts = threshold = None
    if site.files and site.files.max_items is not None and site.files.max_items < total:
        wanted = site.files.max_items
        if site.files.sample_by == "district":
            districts = _sampled_districts(places, wanted, config)
            places = {place: size for place, size in places.items() if place in districts}
            total = sum(places.values())
        else:
            draws = np.concatenate([one.draws for one in settled if one.draws is not None])
            threshold = np.partition(draws, wanted - 1)[wanted - 1]
    rejects.refuse_unfit(read, sum(one.sparse for one in settled), total, site.work, config)
    held, share = _held(places, total, config)
    return Choice(districts, threshold, held, split.held_random / (1 - share))


def _held(places: dict[str, int], total: int, config: CatalogueConfig) -> tuple[settle.Held, float]:
    """Cities first, then districts of the others, and their share; none where nothing would be left to learn from."""
    split = config.split
    cities = Counter[str]()
    for place, size in places.items():
        cities[_city(place)] += size
    whole = settle.choose_places(cities, split.held_city * total, config.seed, "held_city")
    others = {place: size for place, size in places.items() if _city(place) not in whole}
    single = settle.choose_places(others, split.held_place * total, config.seed, "held_place")
    held = sum(cities[city] for city in whole) + sum(others[place] for place in single)
    if held == total:
        return settle.Held(frozenset(), frozenset()), 0.0
    return settle.Held(whole, single), held / total


def _city(place: str) -> str:
    """The path of the city in which a district lies."""
    return place.rpartition(SEPARATOR)[0]


def _sampled_districts(places: dict[str, int], wanted: int, config: CatalogueConfig) -> frozenset[str]:
    if not places:
        raise InputError(
            "catalogue.source.sample_by=district: no item has a province, city and district; map them with "
            "`columns`, or set catalogue.source.sample_by=item"
        )
    return settle.choose_places(places, wanted, config.seed, "max_items")


def _added(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    return dict(sum((Counter(one) for one in counts), Counter()))


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


def _counts(
    scanned: list[dict[str, Any]],
    left_out: dict[str, int],
    published: list[dict[str, Any]],
    logs: list[dict[str, Any]],
    reasons: Counter[tuple[str, str]],
) -> Facts:
    """Rows read, accepted, left out and quarantined by table; they add up."""
    facts: Facts = {}
    for table, accepted in zip(TABLES, (published, logs), strict=True):
        by_reason = {reason: count for (name, reason), count in sorted(reasons.items()) if name == table}
        read = sum(one["read"] for one in scanned if one["table"] == table)
        rows, quarantined = sum(one["rows"] for one in accepted), sum(by_reason.values())
        facts |= {
            f"{table}_read": read,
            f"{table}_accepted": rows,
            f"{table}_left_out": left_out[table],
            f"{table}_quarantined": quarantined,
            f"{table}_quarantined_by_reason": by_reason,
        }
        assert rows + left_out[table] + quarantined == read, f"{table} rows went missing"
    return facts
