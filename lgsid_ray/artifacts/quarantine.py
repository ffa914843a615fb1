"""Rows that were left behind."""

from typing import ClassVar

import pyarrow as pa

from lgsid_ray.artifacts.table import Table


class Quarantine(Table):
    """Rows that could not be used, with their reasons."""

    name: ClassVar = "quarantine.parquet"
    schema: ClassVar = pa.schema(
        [
            ("table", pa.string()),  # items | interactions
            ("file", pa.string()),
            ("row", pa.int64()),  # 1-based data row within the file
            ("column", pa.string()),
            ("reason", pa.string()),
            ("raw", pa.string()),  # the raw row as JSON
        ]
    )
    key: ClassVar = "row"
