"""The interaction log."""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts.table import Table


class Interactions(Table):
    """Accepted log rows, sorted by user and time within a part; a user's rows are all in one part."""

    name: ClassVar = "interactions"
    schema: ClassVar = pa.schema(
        [
            ("user_id", pa.string()),
            ("item_index", pa.int64()),
            ("item_id", pa.string()),
            ("timestamp", pa.int64()),  # Unix seconds; null where the log has no times
            ("label", pa.float64()),  # 1 click, 0 impression, or a rating
            ("rank_split", pa.string()),  # train | valid | test, by time: for click prediction
            ("generate_split", pa.string()),  # train | valid | test, leave-last-out per user; null on impressions
        ]
    )

    def popularity(self, items: int) -> Int64:
        """(items,) training events of every item: positive ones that train both recommenders (see `trains`)."""
        counts = np.zeros(items, dtype=np.int64)
        if self.exists():
            for table in self.scan(["item_index", "label", "rank_split", "generate_split"]):
                kept = table.column("item_index").to_numpy()[trains(table)]
                counts += np.bincount(kept, minlength=items)
        return counts


def trains(log: pa.Table) -> np.ndarray:
    """(n,) bool: which rows may be counted on.

    A row counts when it trains both recommenders (`rank_split` train, `generate_split` train or null) and its label is
    null or positive, so that nothing that is counted is later a target of a metric.
    """
    generate = log.column("generate_split")
    unseen = pc.and_(
        pc.equal(log.column("rank_split"), "train"),
        pc.or_(pc.is_null(generate), pc.fill_null(pc.equal(generate, "train"), False)),
    )
    liked = pc.fill_null(pc.greater(log.column("label"), 0.0), True)
    return np.asarray(pc.fill_null(pc.and_(unseen, liked), False).to_numpy(zero_copy_only=False), dtype=bool)
