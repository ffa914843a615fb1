"""The catalogue's items."""

from typing import ClassVar

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.artifacts.table import Table
from lgsid_ray.errors import InputError
from lgsid_ray.geo.distance import unit_xyz
from lgsid_ray.geo.points import point_keys


class Items(Table):
    """Accepted items, numbered."""

    name: ClassVar = "items"
    schema: ClassVar = pa.schema(
        [
            ("item_index", pa.int64()),
            ("item_id", pa.string()),
            ("name", pa.string()),
            ("brand", pa.string()),
            ("category_1", pa.string()),
            ("category_2", pa.string()),
            ("price", pa.float64()),
            ("province", pa.string()),
            ("city", pa.string()),
            ("district", pa.string()),
            ("lat", pa.float64()),  # degrees, WGS-84; null throughout a catalogue without places
            ("lon", pa.float64()),
            ("province_filled", pa.bool_()),  # True: from the gazetteer, not from the catalogue
            ("city_filled", pa.bool_()),
            ("district_filled", pa.bool_()),
            ("split", pa.string()),  # train | held_city | held_place | held_random
        ]
    )

    def training(self) -> Int64:
        """item_index of the training items, ascending."""
        parts = self.scan(["item_index", "split"])
        return np.concatenate([table.column("item_index").to_numpy()[trains(table)] for table in parts])

    def xyz(self) -> Float64 | None:
        """(n, 3) points on the unit sphere, 24 bytes an item; None where the catalogue has no places."""
        parts = [xyz(table) for table in self.scan(["lat", "lon"])]
        whole = np.concatenate(parts)
        return None if np.isnan(whole).any() else whole


def trains(items: pa.Table) -> np.ndarray:
    """(n,) bool: which rows are training items."""
    return np.asarray(items.column("split").to_numpy(zero_copy_only=False) == "train")


def points(items: pa.Table) -> Int64:
    """(n,) the key of each row's point (geo/points).

    Raises:
        InputError: a row has no coordinates.
    """
    lat, lon = (items.column(name) for name in ("lat", "lon"))
    if lat.null_count or lon.null_count:
        raise InputError(
            "catalogue: items have no coordinates, so nothing can be sampled or aligned by them; map lat and lon, or "
            "do without alignment: tokenizer.embeddings=origin"
        )
    return point_keys(lat.to_numpy(), lon.to_numpy())


def xyz(items: pa.Table) -> Float64:
    """(n, 3) points on the unit sphere; NaN where there are no coordinates."""
    lat, lon = (items.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in ("lat", "lon"))
    return unit_xyz(lat, lon)
