"""User histories from the log: which events count, and which of them a long history keeps."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Bool, Int64, UInt64
from lgsid_ray.artifacts.interactions import trains

EVENT_COLUMNS = ["user_id", "item_index", "timestamp", "label", "rank_split", "generate_split"]


@dataclass(frozen=True)
class Events:
    """Parallel columns, one entry per event, in log order."""

    user: UInt64
    """64-bit hash of user_id."""
    item: Int64
    time: Int64
    """Unix seconds; where the log has none, 0, and log order decides."""

    def take(self, rows: Int64 | Bool) -> "Events":
        """The given rows."""
        return Events(self.user[rows], self.item[rows], self.time[rows])


def training_events(log: pa.Table, counted: Bool) -> Events:
    """The events of a part of the log that may be counted on (artifacts/interactions), on the items that count.

    Args:
        log: interactions with the columns EVENT_COLUMNS.
        counted: (items,) which items count.
    """
    kept = log.filter(pa.array(trains(log)))
    users = kept.column("user_id").to_pandas().to_numpy(dtype=object)
    events = Events(
        user=pd.util.hash_array(users).astype(np.uint64),
        item=kept.column("item_index").to_numpy().astype(np.int64),
        time=pc.fill_null(kept.column("timestamp"), 0).to_numpy().astype(np.int64),
    )
    return events.take(counted[events.item])


def concatenate(events: list[Events]) -> Events:
    """Several runs of the log, in their order, as one."""
    return Events(
        np.concatenate([e.user for e in events]),
        np.concatenate([e.item for e in events]),
        np.concatenate([e.time for e in events]),
    )


def histories(events: Events, max_history: int) -> tuple[Int64, Int64]:
    """H_u of Eq 5: each user's distinct items among the latest `max_history` events.

    Returns:
        Items, ascending within a user, and where each user's items start, (users + 1,).
    """
    order = np.lexsort((-np.arange(len(events.user)), -events.time, events.user))
    users = events.user[order]
    start = np.flatnonzero(np.append(True, users[1:] != users[:-1])) if len(users) else np.empty(0, np.int64)
    age = np.arange(len(users)) - np.repeat(start, np.diff(np.append(start, len(users))))
    latest = order[age < max_history]
    user, item = events.user[latest], events.item[latest]
    by_item = np.lexsort((item, user))
    user, item = user[by_item], item[by_item]
    fresh = np.append(True, (user[1:] != user[:-1]) | (item[1:] != item[:-1])) if len(user) else np.empty(0, bool)
    user, item = user[fresh], item[fresh]
    first = np.flatnonzero(np.append(True, user[1:] != user[:-1])) if len(user) else np.empty(0, np.int64)
    return item, np.append(first, len(user)).astype(np.int64)
