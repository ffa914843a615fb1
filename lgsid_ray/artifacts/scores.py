"""How likely users are to take items."""

from typing import ClassVar

import pyarrow as pa

from lgsid_ray.artifacts.table import Table


class Scores(Table):
    """Pairs in the order of the file that asked for them, less those in quarantine."""

    name: ClassVar = "scores"
    schema: ClassVar = pa.schema(
        [
            ("user_id", pa.string()),
            ("item_id", pa.string()),
            ("timestamp", pa.int64()),  # Unix seconds, as asked; null: after the log's latest event
            ("known", pa.bool_()),  # whether the log knows the user; else the score is that of an empty history
            ("probability", pa.float32()),  # of a click, as often as among the training samples
        ]
    )
    key: ClassVar = "item_id"
