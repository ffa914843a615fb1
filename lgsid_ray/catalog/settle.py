"""What happens to items and log rows once they are sorted into buckets: pure functions on one bucket's table."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Bool, Float64, UInt64
from lgsid_ray.artifacts import Items
from lgsid_ray.artifacts.labels import LEVELS, label_paths
from lgsid_ray.artifacts.table import conform
from lgsid_ray.catalog.gazetteer import gazetteer
from lgsid_ray.config.catalogue import SplitConfig
from lgsid_ray.draws import random_bits, unit
from lgsid_ray.geo.distance import haversine_km

_FAR_KM, _NEAR_KM = 40.0, 15.0  # most items lie near towns, most of the earth does not
LOG_COLUMNS = ("user_id", "item_id", "timestamp", "label")


def hashes(values: pa.ChunkedArray | pa.Array) -> UInt64:
    """(n,) stable 64-bit hashes of strings: the same on every machine and in every process."""
    texts = np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)
    return np.asarray(pd.util.hash_array(texts, categorize=False), dtype=np.uint64)


def duplicates(frame: pd.DataFrame, key: list[str], content: list[str]) -> tuple[Bool, Bool]:
    """(n,) masks of the rows after the first of their key: those with equal content, and those with other content."""
    later = frame.duplicated(subset=key, keep="first").to_numpy()
    equal = frame.duplicated(subset=[*key, *content], keep="first").to_numpy()
    return later & equal, later & ~equal


def fill_labels(items: pa.Table, located: bool = True) -> pa.Table:
    """Fill missing province, city and district from the nearest populated place, and say where that was done.

    A label the catalogue brings is never changed. Without coordinates there is nothing to fill from: the labels are
    the catalogue's own, or null.
    """
    given = {level: np.asarray(items.column(level).to_pylist(), dtype=object) for level in LEVELS}
    lacking = {level: np.asarray(pd.isna(values), dtype=bool) for level, values in given.items()}
    if not located:
        lacking = {level: np.zeros(len(items), dtype=bool) for level in LEVELS}
    rows = np.flatnonzero(np.logical_or.reduce(list(lacking.values())))
    if len(rows):
        places = gazetteer()
        nearest = places.nearest(items.column("lat").to_numpy()[rows], items.column("lon").to_numpy()[rows])
        found = {
            "province": places.provinces[nearest],
            "city": places.names[places.city[nearest]],
            "district": places.names[nearest],
        }
        for level in LEVELS:
            missing = lacking[level][rows]
            given[level][rows[missing]] = found[level][missing]
    for level in LEVELS:
        items = items.set_column(items.column_names.index(level), level, pa.array(given[level], pa.string()))
        items = items.append_column(f"{level}_filled", pa.array(lacking[level]))
    return items


def complete(items: pa.Table) -> pa.Table:
    """New items as the catalogue stage would make them: absent columns are null, missing labels filled."""
    names = [name for name in Items.schema.names if not name.endswith("_filled")]
    given = {
        name: items.column(name) if name in items.column_names else pa.nulls(len(items), Items.schema.field(name).type)
        for name in names
    }
    located = given["lat"].null_count == 0 and given["lon"].null_count == 0
    return conform(fill_labels(pa.table(given), located), Items.schema, "items")


def count_exchanged(lat: Float64, lon: Float64) -> int:
    """How many points (degrees) lie far from any populated place, but near one with lat and lon exchanged."""
    possible = np.abs(lon) <= 90
    lat, lon = lat[possible], lon[possible]
    far = _km_to_town(lat, lon) > _FAR_KM
    return int((_km_to_town(lon[far], lat[far]) < _NEAR_KM).sum())


def _km_to_town(lat: Float64, lon: Float64) -> Float64:
    places = gazetteer()
    nearest = places.nearest(lat, lon)
    return np.asarray(haversine_km(lat, lon, places.lat[nearest], places.lon[nearest]))


@dataclass(frozen=True)
class Held:
    """Which places are held out, as label paths: whole cities, and single districts of the others."""

    cities: frozenset[str]
    districts: frozenset[str]


def within(items: pa.Table, places: frozenset[str], depth: int = len(LEVELS)) -> Bool:
    """(n,) which rows lie in one of `places` (label paths of `depth` levels); what has no such label lies in none."""
    named = pa.array(sorted(places), pa.string())
    return np.asarray(pc.is_in(label_paths(items, depth), value_set=named).to_numpy(zero_copy_only=False), dtype=bool)


def choose_places(counts: dict[str, int], wanted: float, seed: int, stream: str) -> frozenset[str]:
    """Whole places in a seeded order until they hold about `wanted` items, never one more than brings it nearer."""
    names = sorted(counts)
    order = np.argsort(random_bits(seed, stream, hashes(pa.array(names, pa.string()))), kind="stable")
    chosen, total = set(), 0
    for row in order:
        size = counts[names[row]]
        if total + size - wanted <= wanted - total:
            chosen.add(names[row])
            total += size
    return frozenset(chosen)


def item_splits(items: pa.Table, held: Held, random_share: float, seed: int) -> list[str]:
    """Every item's `Items` split; `random_share` is that of the items outside `held`."""
    drawn = unit(random_bits(seed, "held_random", hashes(items.column("item_id")))) < random_share
    reasons = [within(items, held.cities, depth=2), within(items, held.districts), drawn]
    return np.select(reasons, ["held_city", "held_place", "held_random"], "train").tolist()


def log_splits(log: pd.DataFrame, split: SplitConfig, limits: tuple[float, float] | None, seed: int) -> pd.DataFrame:
    """Add rank_split and generate_split to the events of some users, sorted by user and time.

    rank_split goes by time (`limits`: the seconds from which on an event is valid, or test); without times by a
    seeded hash of user and item. generate_split: of a user's events with a positive label (a click, or a rating; a
    null label is a visit) the last is test, the last but one valid, the others train; users with fewer than three
    only train; impressions have none. Without times there is no order, and none is invented.
    """
    log = log.copy()
    if limits is None:
        key = hashes(pa.array(log["user_id"] + "\x1f" + log["item_id"], pa.string()))
        drawn = unit(random_bits(seed, "rank_split", key))
        edges = (1 - split.time_valid - split.time_test, 1 - split.time_test)
        log["rank_split"] = np.where(drawn < edges[0], "train", np.where(drawn < edges[1], "valid", "test"))
        log["generate_split"] = None
        return log
    times = log["timestamp"].to_numpy(np.int64)
    log["rank_split"] = np.where(times < limits[0], "train", np.where(times < limits[1], "valid", "test"))
    positive = log["label"].isna() | (log["label"] > 0)
    visits = log[positive]
    from_end = visits.groupby("user_id", sort=False).cumcount(ascending=False)
    enough = visits.groupby("user_id", sort=False)["user_id"].transform("size") >= 3
    place = np.where(enough & (from_end == 0), "test", np.where(enough & (from_end == 1), "valid", "train"))
    log["generate_split"] = pd.Series(place, index=visits.index).reindex(log.index).astype(object)
    log.loc[~positive, "generate_split"] = None
    return log
