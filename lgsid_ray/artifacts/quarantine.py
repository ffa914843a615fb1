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

    @classmethod
    def of(cls, table: str, file: str, rejects: list[tuple[int, str, str, str]]) -> pa.Table:
        """Rows of (row number, column, reason, raw) of one file."""
        rows = [
            {"table": table, "file": file, "row": row, "column": column, "reason": reason, "raw": raw}
            for row, column, reason, raw in rejects
        ]
        return pa.Table.from_pylist(rows, schema=cls.schema)
