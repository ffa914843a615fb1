"""Scores of many pairs, from Parquet to Parquet: row groups stream through a pool of actors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from lgsid_ray.artifacts import Quarantine, Scores
from lgsid_ray.artifacts.table import conform
from lgsid_ray.config.recommend import RankConfig
from lgsid_ray.errors import ConfigError, InputError
from lgsid_ray.execution.stage import Cell
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.execution.stream import stream
from lgsid_ray.recommend.rankers.scorer import Scorer

REQUEST = "request.json"
NEEDED, TIME = ("user_id", "item_id"), "timestamp"


@dataclass(frozen=True)
class Asked:
    """What is asked of which ranker."""

    cell: Cell
    """A finished one."""
    config: RankConfig
    seed: int


@dataclass(frozen=True)
class Group:
    """A row group of a file of pairs."""

    file: str
    number: int
    start: int
    """Rows of the file in front of it."""
    rows: int


def groups(files: Sequence[str]) -> list[Group]:
    """The row groups of Parquet files, in order.

    Raises:
        InputError: a file is none, or lacks a column, or has a timestamp that is not whole seconds.
    """
    found: list[Group] = []
    for file in files:
        try:
            meta = pq.ParquetFile(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{file}: {error}") from None
        schema = meta.schema_arrow
        lacking = [name for name in NEEDED if name not in schema.names]
        if lacking:
            raise InputError(f"{file} has no column {lacking[0]}; pairs have user_id, item_id and, if known, {TIME}")
        if TIME in schema.names and not pa.types.is_integer(schema.field(TIME).type):
            raise InputError(f"{file}: column {TIME} is {schema.field(TIME).type}; write Unix seconds as whole numbers")
        start = 0
        for number in range(meta.num_row_groups):
            rows = meta.metadata.row_group(number).num_rows
            found.append(Group(file, number, start, rows))
            start += rows
    return [group for group in found if group.rows]


class _Marker:
    """An actor: loads the ranker once, then scores a row group at a time."""

    def __init__(self, asked: Asked, parts: list[Group], out: StageDir) -> None:
        torch.set_num_threads(1)  # the pool is the parallelism
        self._asked, self._parts, self._out = asked, parts, out
        self._scorer: Scorer | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._scorer is None:  # not in the constructor: of what fails there Ray passes on the text alone
            self._scorer = Scorer.load(self._asked.cell, self._asked.config, self._asked.seed)
        for place in batch["place"].tolist():
            _score(self._scorer, self._parts[place], self._out, _name(place))
        return {"rows": batch["rows"]}


def write_scores(asked: Asked, parts: list[Group], out: StageDir, actors: int) -> Iterator[int]:
    """Write `Scores` of pairs into `out`, and yield the number of rows as row groups get done.

    What stands is kept, so that a call that was killed is continued by the same call. Rows whose item the catalogue
    lacks, or that have no time where others have one, go to quarantine.

    Raises:
        ConfigError: `out` holds the scores of another request.
    """
    told = {"cell": asked.cell.out.uri, "parts": [[part.file, part.number, part.rows] for part in parts]}
    if out.exists(REQUEST) and out.read_json(REQUEST) != told:
        raise ConfigError(f"{out.root} holds the scores of another request; name another folder, or delete it")
    out.make().write_json(REQUEST, told)
    standing = out.members(Scores.name)
    missing = [place for place in range(len(parts)) if _name(place) not in standing]
    yield sum(part.rows for part in parts) - sum(parts[place].rows for place in missing)
    units: list[dict[str, Any]] = [{"place": place, "rows": parts[place].rows} for place in missing]
    if units:
        for one in stream(_Marker, (asked, parts, out), units, actors):
            yield int(one["rows"])


def _name(place: int) -> str:
    return f"part-{place:06d}.parquet"


def _score(scorer: Scorer, part: Group, out: StageDir, name: str) -> None:
    """Write the scores of a row group, and in front of them what is left out, so that neither stands for half."""
    source = pq.ParquetFile(part.file)
    columns = [name for name in (*NEEDED, TIME) if name in source.schema_arrow.names]
    table = source.read_row_group(part.number, columns)
    users, items = (table.column(column).cast(pa.string()).combine_chunks() for column in NEEDED)
    timed = TIME in columns
    times = table.column(TIME).cast(pa.int64()).combine_chunks() if timed else pa.nulls(len(table), pa.int64())
    scores, known = scorer.scores(users, items, pc.fill_null(times, 0).to_numpy() if timed else None)
    late = times.is_null().to_numpy(zero_copy_only=False) & timed
    lacking = np.isnan(scores)
    rejects = [
        (part.start + row + 1, *_reason(bool(lacking[row]), items[row].as_py()))
        for row in np.flatnonzero(lacking | late).tolist()
    ]
    if rejects:
        Quarantine(out).write(Quarantine.of("pairs", part.file, rejects), name)
    found = {"user_id": users, "item_id": items, "timestamp": times, "known": known, "probability": scores}
    kept = pa.table(found).filter(pa.array(~(lacking | late)))
    Scores(out).write(conform(kept, Scores.schema, Scores.name), name)


def _reason(lacking: bool, item: str | None) -> tuple[str, str, str]:
    return ("item_id", "not in the catalogue", str(item)) if lacking else (TIME, "missing", "")
