"""Frontiers of geography against meaning."""

from typing import ClassVar

import pyarrow as pa

from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.artifacts.table import Table

MEASURES = ("similarity", "content_similarity", *LEVELS)
"""What is measured of what a query retrieves: Similarity@K, ContentSimilarity@K, and P/C/T@K."""


ARMS = {
    "content_fusion": "content fusion",
    "whitened_fusion": "whitened text fusion",
    "whitened_all": "whitened, all texts",
    "text_fusion": "text fusion",
    "label_fusion": "label fusion",
    "late_fusion": "late fusion",
    "distance_kernel": "distance kernel",
    "log_distance": "log distance",
    "aligned": "aligned",
    "levels": "levels oracle",
    "content_oracle": "content oracle",
    "oracle": "oracle",
}
"""What they are called, in the order of tables; see evaluate/frontiers.py for what they are."""

UNTRAINED = (
    "content_fusion",
    "whitened_fusion",
    "whitened_all",
    "text_fusion",
    "late_fusion",
    "distance_kernel",
    "log_distance",
)
"""Those that neither train nor read a label: what alignment has to beat."""


class Frontier(Table):
    """One point per arm, group and knob, at K = 5."""

    name: ClassVar = "frontier.parquet"
    schema: ClassVar = pa.schema(
        [
            ("arm", pa.string()),  # of ARMS; each but the content oracle begins at origin
            ("group", pa.string()),  # all | train | held_city | held_place | held_random
            ("knob", pa.float64()),  # γ, w or α
            *((name, pa.float64()) for name in MEASURES),
        ]
    )
    key: ClassVar = "arm"
