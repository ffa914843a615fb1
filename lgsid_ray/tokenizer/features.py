"""Composite features F = [w_admin f_admin, w_geo f_geo, w_cat f_cat, w_brand f_brand] (Eq 9)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from lgsid_ray.arrays import Float32, Float64, Object
from lgsid_ray.config.tokenizer import FeatureConfig
from lgsid_ray.draws import random_bits, unit
from lgsid_ray.geo.distance import unit_xyz

COLUMNS = ("province", "city", "district", "category_1", "category_2", "brand", "lat", "lon")
_ADMIN, _CATEGORY = ("province", "city", "district"), ("category_1", "category_2")


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


def blocks(config: FeatureConfig) -> list[tuple[float, int]]:
    """(weight, width) of each block, in the order of the columns."""
    width = config.projection if config.ids == "projected" else 1
    return [
        (config.admin, width * len(_ADMIN)),
        (config.geo, 3),
        (config.category, width * len(_CATEGORY)),
        (config.brand, width),
    ]


def raw_features(items: pa.Table, config: FeatureConfig, seed: int) -> Float32:
    """(n, width) features before standardisation.

    An ID becomes a fixed random direction that depends on (seed, ID) alone, the projection of its one-hot vector, so
    no vocabulary is needed; null is the zero vector. A place counts within those above it, since names recur.
    Coordinates are points of the unit sphere, continuous at the antimeridian and the poles.
    """
    path, admin = np.full(len(items), "", dtype=object), []
    for level in _ADMIN:
        names = _texts(items, level)
        path = path + "\x1f" + names
        # An unknown city of a known province is unknown, not a city of its own.
        admin.append(_ids(np.where(names == "", "", path), level, config, seed))
    geo = unit_xyz(items.column("lat").to_numpy(), items.column("lon").to_numpy())
    others = [_ids(_texts(items, name), name, config, seed) for name in (*_CATEGORY, "brand")]
    return np.concatenate([*admin, geo, *others], axis=1).astype(np.float32)


def moments(raw: Float32) -> Moments:
    """The sums of some items' raw features, in float64."""
    wide = raw.astype(np.float64)
    return Moments(len(raw), wide.sum(axis=0), np.square(wide).sum(axis=0))


def standardise(raw: Float32, sums: Moments, config: FeatureConfig) -> Float32:
    """Centre every column, scale every block to a mean squared norm of 1, then weight it."""
    mean = sums.total / sums.count
    variance = (sums.square / sums.count - np.square(mean)).clip(min=0)
    out, start = (raw - mean).astype(np.float32), 0
    for weight, width in blocks(config):
        columns = slice(start, start + width)
        spread = variance[columns].sum()
        # All items alike in this block: nothing to weigh, whatever is left is rounding.
        out[:, columns] *= weight / np.sqrt(spread) if spread > 1e-14 else 0.0
        start += width
    return out


def _texts(items: pa.Table, name: str) -> Object:
    values = np.asarray(items.column(name).to_pylist(), dtype=object)
    values[pd.isna(values)] = ""
    return values


def _ids(values: Object, name: str, config: FeatureConfig, seed: int) -> Float64:
    distinct, back = np.unique(values.astype(str), return_inverse=True)
    key = pd.util.hash_array(distinct.astype(object), categorize=False)
    given = distinct != ""
    if config.ids == "scaled":
        return (unit(random_bits(0, name, key)) * given)[back, None]
    counter = np.arange(config.projection)
    # Uniform entries of variance 1: as good as normal ones for a projection, and cheaper.
    directions = (unit(random_bits(seed, name, key[:, None], counter)) - 0.5) * np.sqrt(12)
    return (directions * given[:, None])[back]
