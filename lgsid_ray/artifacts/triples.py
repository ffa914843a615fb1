"""Preference triples."""

from typing import ClassVar

import pyarrow as pa

from lgsid_ray.artifacts.table import Table


class Triples(Table):
    """(anchor, i+, i-) for G-DPO (D_mix)."""

    name: ClassVar = "triples"
    schema: ClassVar = pa.schema(
        [
            ("anchor", pa.int64()),
            ("positive", pa.int64()),
            ("negative", pa.int64()),
            ("source", pa.string()),  # collaborative | near | wide (i+ from the anchor's city or province, i- outside)
            ("hard", pa.bool_()),  # the negative lies just outside the anchor's district
        ]
    )
    key: ClassVar = "anchor"
