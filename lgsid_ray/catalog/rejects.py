"""The rows that were left behind: into the quarantine with their reasons, counted, and refused when they are too many.

Every task writes its rejects to a part of `work/quarantine` of its own; `publish` makes one table of them.
"""

import json
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lgsid_ray.artifacts import Items, Quarantine
from lgsid_ray.catalog import settle
from lgsid_ray.catalog.validate import NO_PLACE
from lgsid_ray.config.catalogue import CatalogueConfig, TableSource, shown
from lgsid_ray.errors import InputError
from lgsid_ray.execution.storage import StageDir


def duplicates(
    frame: pd.DataFrame, equal: np.ndarray, other: np.ndarray, table: str, column: str, work: StageDir, name: str
) -> None:
    """Rows of `frame` that repeat an earlier row (`equal`), or its key with `other` content."""
    content = "another row has this item_id with other content; the first by file and row is kept"
    _write(frame[equal], table, column, "duplicate of an earlier row", work, f"{name}-equal")
    _write(frame[other], table, column, content, work, f"{name}-other")


def unplaced(frame: pd.DataFrame, work: StageDir, bucket: int) -> None:
    """Items without coordinates in a catalogue that has them."""
    _write(frame, "items", "lat", NO_PLACE, work, f"1-unplaced-{bucket:05d}")


def unknown(log: pa.Table, work: StageDir, bucket: int) -> None:
    """Log rows whose item is not in the catalogue."""
    frame = log.select([*settle.LOG_COLUMNS, "file", "row"]).to_pandas()
    _write(frame, "interactions", "item_id", "no such item in the catalogue", work, f"2-unknown-{bucket:05d}")


def untimed(frame: pd.DataFrame, work: StageDir, bucket: int) -> None:
    """Log rows without a time in a log that has times."""
    frame = frame[["file", "row", "user_id", "item_id", "label"]]
    _write(frame, "interactions", "timestamp", "empty, while other rows have one", work, f"4-untimed-{bucket:05d}")


def _write(frame: pd.DataFrame, table: str, column: str, reason: str, work: StageDir, name: str) -> None:
    """One part of the quarantine; `frame` has the columns file and row, the others are the raw row."""
    if not len(frame):
        return
    same = {"table": table, "column": column, "reason": reason}
    columns = {key: pa.array(np.full(len(frame), value, dtype=object)) for key, value in same.items()}
    raw = frame.drop(columns=["file", "row"]).to_json(orient="records", lines=True, force_ascii=False)
    columns |= {
        "file": pa.array(frame["file"]),
        "row": pa.array(frame["row"]),
        "raw": pa.array(raw.strip().split("\n")),
    }
    work.write_table(f"quarantine/{name}.parquet", Quarantine(work).conform(pa.table(columns)))


def publish(work: StageDir, out: StageDir) -> Counter[tuple[str, str]]:
    """One file out of all rejects, part by part; returns how many there are by table and reason."""
    reasons: Counter[tuple[str, str]] = Counter()
    with out.write(Quarantine.name) as file, pq.ParquetWriter(file, Quarantine.schema, compression="zstd") as writer:
        for part in _parts(work):
            rows = work.read_part(part).cast(Quarantine.schema)
            writer.write_table(rows)
            reasons.update(_reasons(rows))
    return reasons


def _parts(work: StageDir) -> list[str]:
    return work.parts("quarantine") if work.exists("quarantine") else []


def _reasons(rows: pa.Table) -> Counter[tuple[str, str]]:
    """How many rejects there are by table and by "column: reason"."""
    columns = [rows.column(name).to_pylist() for name in ("table", "column", "reason")]
    named = zip(*columns, strict=True)
    return Counter((table, f"{column}: {reason}" if column else reason) for table, column, reason in named)


def refuse_unfit(read: int, left_out: int, kept: int, work: StageDir, config: CatalogueConfig) -> None:
    """Stop when nothing, or too little, of the items is fit.

    Args:
        read, left_out, kept: item rows in the files, of items too rarely visited, and to go on with.

    Raises:
        InputError: with the most frequent reasons, and where the rows are.
    """
    if not read:
        raise InputError(f"{_path(config, 'items')}: there is no row of data in it")
    reasons: Counter[str] = Counter()
    for part in _parts(work):
        found = _reasons(work.read_part(part, ["table", "column", "reason"]))
        reasons.update({reason: count for (table, reason), count in found.items() if table == "items"})
    rejected, where = sum(reasons.values()), work.path("quarantine")
    if not kept:
        sparse = Counter({"fewer rows in the log than min_interactions": left_out} if left_out else {})
        raise InputError(f"no item is left of {read} rows read: {_shown(reasons + sparse)}. The rows are in {where}")
    if rejected / read > config.max_quarantine:
        raise InputError(
            f"{rejected} of {read} item rows are unfit, more than catalogue.max_quarantine={config.max_quarantine:g} "
            f"allows: {_shown(reasons)}. The rows are in {where}; mend them or raise the limit"
        )


def refuse_lost_log(facts: dict[str, Any], out: StageDir, config: CatalogueConfig) -> None:
    """Stop when too little of the log is fit.

    Raises:
        InputError: with the most frequent reasons, and where the rows are.
    """
    read, lost = facts["interactions_read"], facts["interactions_quarantined"]
    if read and lost / read > config.max_log_quarantine:
        reasons = Counter(facts["interactions_quarantined_by_reason"])
        raise InputError(
            f"{lost} of {read} rows of the log are unfit, more than "
            f"catalogue.max_log_quarantine={config.max_log_quarantine:g} allows: {_shown(reasons)}. The rows are in "
            f"{Quarantine(out).path}; mend them or raise the limit"
        )


def refuse_other_keys(items: Counter[str], log: Counter[str]) -> None:
    """Stop when a writer made doubles of the item ids of one table: 12.0 as text is another id than 12.

    Args:
        items, log: how many item ids are of which form (`Scanned.id_forms`).

    Raises:
        InputError: before a single row is called a stranger.
    """
    for one, other, name in ((items, log, "items"), (log, items, "log")):
        if one["12.0"] > 0.9 * one["any"] and other["12"] > 0.9 * other["any"]:
            raise InputError(
                f"the item ids of the {name} are doubles written as text, such as 12.0, those of the other table whole "
                "numbers, such as 12, so none would match: write them as whole numbers (pandas: dtype Int64)"
            )


def refuse_discord(without: list[str], located: list[str]) -> None:
    """Stop when some files have coordinates, and others no columns for them.

    Raises:
        InputError: a row without coordinates is quarantined; a whole file of them is a mistake.
    """
    if without and located:
        raise InputError(
            f"{without[0]} has no columns lat and lon, but {located[0]} has coordinates: all files of a catalogue have "
            "them, or none has; map theirs with `columns`, or leave the file out"
        )


def refuse_exchanged(exchanged: int, looked: int) -> None:
    """Stop when most of the items that were looked at have lat and lon in each other's place.

    Raises:
        InputError: out-of-range rows are quarantined one by one; these are in range, but in the sea.
    """
    if 2 * exchanged > looked:
        raise InputError(
            f"lat and lon look swapped: of {looked} items looked at, {exchanged} lie far from any town, but near one "
            "with both exchanged; exchange them in `columns`"
        )


def refuse_empty_log(facts: dict[str, Any], work: StageDir, out: StageDir, config: CatalogueConfig) -> None:
    """Say why of a log no row is left.

    Raises:
        InputError: always.
    """
    read, reasons = facts["interactions_read"], Counter(facts["interactions_quarantined_by_reason"])
    if not read:
        raise InputError(
            f"{_path(config, 'interactions')}: there is no row of data in it; leave out `interactions` where there is "
            "no log"
        )
    if facts["interactions_left_out"]:
        raise InputError(f"no row of the log is left of {read}: max_items or min_interactions left out their items")
    strangers = [part for part in _parts(work) if "/2-unknown-" in part]
    if not strangers:
        where = Quarantine(out).path
        raise InputError(f"no row of the log is fit of {read} read: {_shown(reasons)}. The rows are in {where}")
    theirs = json.loads(work.read_part(strangers[0], ["raw"]).column("raw")[0].as_py())["item_id"]
    ours = next(Items(out).scan(["item_id"])).column("item_id")[0].as_py()
    raise InputError(
        f"the log matches no item: of {read} rows none is left: {_shown(reasons)}. "
        f"Are the item ids of both tables the same? The log has {theirs!r}, for example, the items {ours!r}"
    )


def _shown(reasons: Counter[str]) -> str:
    return "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(5))


def _path(config: CatalogueConfig, table: str) -> str:
    source = getattr(config.source, table, None)
    return shown(source.path) if isinstance(source, TableSource) else "the synthetic world"
