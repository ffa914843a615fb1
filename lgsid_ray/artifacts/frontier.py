"""Frontiers of geography against meaning."""

from typing import ClassVar

import pyarrow as pa

from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.artifacts.table import Table

MEASURES = ("similarity", "content_similarity", *LEVELS)
"""What is measured of what a query retrieves: Similarity@K, ContentSimilarity@K, and P/C/T@K."""


class Frontier(Table):
    """One point per arm, group and knob, at K = 5."""

    name: ClassVar = "frontier.parquet"
    schema: ClassVar = pa.schema(
        [
            ("arm", pa.string()),  # oracle | late_fusion | aligned; each begins at origin
            ("group", pa.string()),  # all | train | held_place | held_random
            ("knob", pa.float64()),  # γ, w or α
            *((name, pa.float64()) for name in MEASURES),
        ]
    )
    key: ClassVar = "arm"
