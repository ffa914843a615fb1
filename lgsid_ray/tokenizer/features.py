"""Composite features F = [w_admin f_admin, w_geo f_geo, w_cat f_cat, w_brand f_brand] (Eq 9)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pygeohash

from lgsid_ray.arrays import AnyFloat, Float32, Float64
from lgsid_ray.artifacts.items import xyz
from lgsid_ray.artifacts.labels import LEVELS, SEPARATOR, label_paths
from lgsid_ray.config.tokenizer import FeatureConfig
from lgsid_ray.draws import random_bits, unit
from lgsid_ray.errors import InputError

IDS = (*LEVELS, "category_1", "category_2", "brand")
COLUMNS = (*IDS, "lat", "lon")


@dataclass(frozen=True)
class Moments:
    """Sums over items from which blocks are standardised; they add up over shards.

    Attributes:
        count: items. total, square: (width,) sums of columns and of their squares, float64.
    """

    count: int
    total: Float64
    square: Float64

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.total + other.total, self.square + other.square)


@dataclass(frozen=True)
class Transform:
    """From items to features: a row's features depend on the row and on what stands here, and on nothing else."""

    config: FeatureConfig
    seed: int
    moments: Moments

    def __call__(self, items: pa.Table) -> Float32:
        """(n, width) standardised features.

        Raises:
            InputError: a column is missing.
        """
        if absent := [name for name in COLUMNS if name not in items.column_names]:
            raise InputError(f"items: columns {', '.join(absent)} are missing; give them, null where unknown")
        return self.standardise(raw_features(items, self.config, self.seed))

    def standardise(self, raw: Float32) -> Float32:
        """Centre every column, scale every block to a mean squared norm of 1, then weight it."""
        mean = self.moments.total / self.moments.count
        variance = (self.moments.square / self.moments.count - np.square(mean)).clip(min=0)
        out, start = (raw - mean).astype(np.float32), 0
        for weight, width in blocks(self.config):
            columns = slice(start, start + width)
            spread = variance[columns].sum()
            # All items alike in this block: nothing to weigh, whatever is left is rounding.
            out[:, columns] *= weight / np.sqrt(spread) if spread > 1e-14 else 0.0
            start += width
        return out

    @property
    def located(self) -> bool:
        """Whether any item has a place: coordinates, or a province, city or district."""
        (_, admin), (_, geo), *_ = blocks(self.config)
        return bool(self.moments.square[: admin + geo].any())


@dataclass(frozen=True)
class Lots:
    """Features that say nothing of an item: numbers drawn by its item_id alone."""

    seed: int
    width: int

    def __call__(self, items: pa.Table) -> Float32:
        """(n, width) numbers in [0, 1].

        Raises:
            InputError: item_id is missing.
        """
        if "item_id" not in items.column_names:
            raise InputError("items: column item_id is missing; these SIDs are drawn by it")
        key = pd.util.hash_array(items.column("item_id").to_numpy(), categorize=False)
        return unit(random_bits(self.seed, "lots", key[:, None], np.arange(self.width))).astype(np.float32)


def blocks(config: FeatureConfig) -> list[tuple[float, int]]:
    """(weight, width) of each block, in the order of the columns."""
    width = config.projection if config.ids == "projected" else 1
    return [
        (config.admin, width * len(LEVELS)),
        (config.geo, 3 if config.position == "xyz" else width * config.geohash_precision),
        (config.category, width * 2),
        (config.brand, width),
    ]


def raw_features(items: pa.Table, config: FeatureConfig, seed: int) -> Float32:
    """(n, width) features before standardisation.

    An ID becomes a fixed random direction that depends on (seed, ID) alone, the projection of its one-hot vector, so
    no vocabulary is needed; null is the zero vector, for coordinates too. Coordinates are points of the unit sphere,
    continuous at the antimeridian and the poles, or the prefixes of their geohash.
    """
    named = pa.table({name: _named(items.column(name)) for name in IDS})
    paths = (label_paths(named, depth) for depth in range(1, len(LEVELS) + 1))
    rooted = (pc.binary_join_element_wise("", path, SEPARATOR) for path in paths)
    admin = [_ids(path, level, config, seed) for level, path in zip(LEVELS, rooted, strict=True)]
    if config.position == "xyz":
        geo: list[AnyFloat] = [np.nan_to_num(xyz(items))]
    else:
        codes = geohashes(items, config.geohash_precision)
        lengths = range(1, config.geohash_precision + 1)
        geo = [_ids(pc.utf8_slice_codeunits(codes, 0, length), f"geohash-{length}", config, seed) for length in lengths]
    others = [_ids(named.column(name), name, config, seed) for name in IDS[len(LEVELS) :]]
    return np.concatenate([*admin, *geo, *others], axis=1).astype(np.float32)


def geohashes(items: pa.Table, precision: int) -> pa.Array:
    """The geohash of every row, so many letters long; null where there are no coordinates."""
    lat, lon = (items.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in ("lat", "lon"))
    known = np.isfinite(lat + lon).tolist()
    places = zip(known, lat.tolist(), lon.tolist(), strict=True)
    return pa.array([pygeohash.encode(y, x, precision) if here else None for here, y, x in places], pa.string())


def moments(raw: Float32) -> Moments:
    """The sums of some items' raw features, in float64."""
    wide = raw.astype(np.float64)
    return Moments(len(raw), wide.sum(axis=0), np.square(wide).sum(axis=0))


def _named(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Names, and null for the empty one."""
    column = column.cast(pa.string())
    return pc.if_else(pc.equal(column, ""), None, column)


def _ids(values: pa.Array | pa.ChunkedArray, name: str, config: FeatureConfig, seed: int) -> Float64:
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    coded = whole.dictionary_encode()
    distinct = np.asarray(["", *coded.dictionary.to_pylist()], dtype=object)  # the first is null
    back = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False) + 1
    key = pd.util.hash_array(distinct, categorize=False)
    given = distinct != ""
    if config.ids == "scaled":
        return (unit(random_bits(0, name, key)) * given)[back, None]
    counter = np.arange(config.projection)
    # Uniform entries of variance 1: as good as normal ones for a projection, and cheaper.
    directions = (unit(random_bits(seed, name, key[:, None], counter)) - 0.5) * np.sqrt(12)
    return (directions * given[:, None])[back]
