"""What users are recommended."""

from typing import ClassVar

import pyarrow as pa

from lgsid_ray.artifacts.table import Table


class Recommendations(Table):
    """Lists of items for users, best first; a user's rows follow one another."""

    name: ClassVar = "recommendations"
    schema: ClassVar = pa.schema(
        [
            ("user_id", pa.string()),
            ("rank", pa.int32()),  # from 1
            ("item_index", pa.int64()),
            ("item_id", pa.string()),
            ("sid", pa.string()),  # null from a model that reads none
            ("probability", pa.float32()),  # that this item comes next
            ("km", pa.float64()),  # from the user's last place; null without coordinates
            ("visits", pa.int32()),  # how often the user has been there before; 0: the item is new to them
        ]
    )
