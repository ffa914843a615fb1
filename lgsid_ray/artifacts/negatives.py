"""Negatives of Eq 1."""

from typing import ClassVar

import pyarrow as pa

from lgsid_ray.artifacts.table import Table


class Negatives(Table):
    """K training items at other points for every anchor (Eq 1)."""

    name: ClassVar = "negatives"
    schema: ClassVar = pa.schema(
        [
            ("item_index", pa.int64()),  # the anchor
            ("negatives", pa.list_(pa.int64())),  # K item_index, near to far
            ("distance_km", pa.list_(pa.float32())),  # great-circle, of each negative
            ("rank", pa.list_(pa.int64())),  # neighbour rank of each negative; null where drawn uniformly
        ]
    )
