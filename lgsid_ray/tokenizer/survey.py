"""What stands behind a tokenizer's codes: how many items, where, of which city and category; read part by part.

Memory is that of one part, some 20 bytes an item for its distance and to order it, and a row for every pair of a code
and a city.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Float64, Int32, Int64
from lgsid_ray.artifacts import Items
from lgsid_ray.artifacts.items import xyz
from lgsid_ray.artifacts.labels import LEVELS, SEPARATOR, label_paths
from lgsid_ray.geo.spread import centres, degrees, distances_km, group_medians, point_sums
from lgsid_ray.tokenizer.encoded import Encoded

CITY = LEVELS.index("city") + 1
COLUMNS = ["item_index", "split", "lat", "lon", "category_1", *LEVELS[:CITY]]
BESIDE = {"city": lambda items: label_paths(items, CITY), "category": lambda items: items.column("category_1")}
"""Of what the commonest is told, and how it is read."""


@dataclass(frozen=True)
class Places:
    """Where the items of each code are: (k,) latitude and longitude of their centre, and median distance from it."""

    lat: Float64
    lon: Float64
    radius_km: Float64


@dataclass(frozen=True)
class Commonest:
    """What most items of each code bear.

    Attributes:
        value: k texts, None where no item of the code bears any. share: (k,) of the code's items, 0 there.
    """

    value: list[str | None]
    share: Float64


@dataclass(frozen=True)
class Survey:
    """The k codes of a level.

    Attributes:
        items: (k,) how many items have the code.
        splits: how many items of the catalogue are in which split.
        places: None in a catalogue without coordinates.
        commonest: city and category, those that the catalogue has.
    """

    items: Int64
    splits: Mapping[str, int]
    places: Places | None
    commonest: Mapping[str, Commonest]


def survey(items: Items, code: Int32, size: int) -> Survey:
    """The `size` codes of a level, of which item i has code[i]."""
    splits: Counter[str] = Counter()
    sums: Float64 | None = np.zeros((size, 3))
    pairs: dict[str, pa.Table] = {}
    for table in items.scan(COLUMNS):
        mine, points = code[table.column("item_index").to_numpy()], xyz(table)
        splits.update({row["values"]: row["counts"] for row in pc.value_counts(table.column("split")).to_pylist()})
        sums = None if sums is None or np.isnan(points).any() else sums + point_sums(mine, points, size)
        for name, read in BESIDE.items():
            counted = _counted(mine, read(table))
            pairs[name] = _summed(pa.concat_tables([pairs[name], counted])) if name in pairs else counted
    held = np.bincount(code, minlength=size)
    return Survey(
        held,
        dict(splits),
        None if sums is None else _places(items, code, centres(sums)),
        {name: _commonest(counted, held) for name, counted in pairs.items() if len(counted)},
    )


def survey_level_1(items: Items, encoded: Encoded, size: int) -> Survey:
    """The codes of the first level; with the tokens some 40 bytes an item."""
    return survey(items, encoded.tokens()[:, 0], size)


def _places(items: Items, code: Int32, centre: Float64) -> Places:
    distances = np.empty(len(code), dtype=np.float32)
    for table in items.scan(["item_index", "lat", "lon"]):
        index = table.column("item_index").to_numpy()
        distances[index] = distances_km(code[index], xyz(table), centre)
    return Places(*degrees(centre), group_medians(code, distances, len(centre)))


def _counted(code: Int32, values: pa.ChunkedArray) -> pa.Table:
    """(code, value, n) of every pair that occurs; rows without a value are left out."""
    rows = pa.table({"code": code, "value": values, "n": np.ones(len(code), dtype=np.int64)})
    return _summed(rows.filter(pc.is_valid(values)))


def _summed(counted: pa.Table) -> pa.Table:
    summed = counted.group_by(["code", "value"], use_threads=False).aggregate([("n", "sum")])
    return summed.rename_columns({"n_sum": "n"})


def _commonest(counted: pa.Table, held: Int64) -> Commonest:
    """Of each code; among values that are equally common the first by name."""
    by = [("code", "ascending"), ("n", "descending"), ("value", "ascending")]
    codes, first = np.unique(counted.sort_by(by).column("code").to_numpy(), return_index=True)
    best = counted.sort_by(by).take(pa.array(first))
    value: list[str | None] = [None] * len(held)
    share = np.zeros(len(held))
    for code, path, n in zip(
        codes.tolist(), best.column("value").to_pylist(), best.column("n").to_pylist(), strict=True
    ):
        value[code], share[code] = path.rpartition(SEPARATOR)[2], n / held[code]
    return Commonest(value, share)
