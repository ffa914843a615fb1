"""The interaction table as compact arrays, and what kind of log it is."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Float64, Int8, Int32, Int64
from lgsid_ray.artifacts import Interactions
from lgsid_ray.errors import InputError
from lgsid_ray.execution.storage import StageDir

Kind = Literal["impressions", "visits", "ratings"]
SPLITS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)
NO_SPLIT = -1

COLUMNS = ["user_id", "item_index", "timestamp", "label", "rank_split", "generate_split"]
"""What a `Log` is made of."""


class Unusable(Exception):  # noqa: N818  # nothing is wrong: a stage that catches it says why it has nothing to do
    """What the log lacks for one kind of recommender."""


@dataclass(frozen=True)
class Log:
    """Events sorted by user, then time, then row; about 40 bytes an event."""

    user: Int32
    """(e,) user number, ascending."""
    item: Int64
    """(e,) item_index."""
    time: Int64
    """(e,) Unix seconds; zeros where the log has no times."""
    label: Float64
    """(e,) 1 where the log has no labels."""
    rank_split: Int8
    """(e,) TRAIN, VALID or TEST, by time; without times drawn by the catalogue stage."""
    generate_split: Int8
    """(e,) TRAIN, VALID, TEST, or NO_SPLIT on what is no step of a sequence."""
    kind: Kind
    timed: bool

    def __len__(self) -> int:
        return len(self.user)


def read(catalogue: StageDir) -> Log:
    """The catalogue's log.

    Raises:
        Unusable: there is none.
    """
    table = Interactions(catalogue)
    if not table.exists() or not table.count():
        raise Unusable("the catalogue has no interactions")
    return of(table.read(COLUMNS))  # about 100 bytes an event while it is read


def users(catalogue: StageDir) -> pa.Array:
    """The user_id behind each user number of the catalogue's log."""
    column = Interactions(catalogue).read(["user_id"]).column("user_id")
    return column.dictionary_encode().combine_chunks().dictionary


def of(table: pa.Table) -> Log:
    """A log from a table with `COLUMNS`.

    A log with labels 0 and 1 holds impressions; one whose labels are all alike (or absent) holds visits; any other
    holds ratings. It is timed when every row has a time stamp; a partly timed log is used as an untimed one.
    """
    user = _codes(table.column("user_id"))
    timed = table.num_rows > 0 and table.column("timestamp").null_count == 0
    time = pc.fill_null(table.column("timestamp"), 0).to_numpy() if timed else np.zeros(len(user), dtype=np.int64)
    label = pc.fill_null(table.column("label"), 1.0).to_numpy()
    order = np.lexsort((time, user))
    return Log(
        user=user[order],
        item=table.column("item_index").to_numpy()[order],
        time=time[order],
        label=label[order],
        rank_split=_splits(table.column("rank_split"))[order],
        generate_split=_splits(table.column("generate_split"))[order],
        kind=kind_of(label),
        timed=timed,
    )


def kind_of(label: Float64) -> Kind:
    """What a log holds, from its labels alone."""
    values = np.unique(label)
    if len(values) <= 1:
        return "visits"
    return "impressions" if set(values.tolist()) == {0.0, 1.0} else "ratings"


def _codes(column: pa.ChunkedArray) -> Int32:
    """Users numbered in the order of their first row."""
    # Encoded first: one chunk of strings holds 2 GiB at most.
    return column.dictionary_encode().combine_chunks().indices.to_numpy(zero_copy_only=False).astype(np.int32)


def _splits(column: pa.ChunkedArray) -> Int8:
    known = pc.fill_null(pc.index_in(column, pa.array(SPLITS)), NO_SPLIT).to_numpy().astype(np.int8)
    if (known == NO_SPLIT).sum() != column.null_count:
        strange = set(column.unique().to_pylist()) - {*SPLITS, None}
        raise InputError(f"interactions: unknown split {sorted(strange)}; run the catalogue stage again")
    return known
