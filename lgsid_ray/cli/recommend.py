"""The command `recommend`: what users of the log want next, on the terminal or as Parquet."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Items, Quarantine, Recommendations
from lgsid_ray.cli.options import console, latest, tell
from lgsid_ray.cli.trained import cell_of, trained
from lgsid_ray.config.recommend import GenerateCell, GenerateConfig
from lgsid_ray.errors import ConfigError, InputError
from lgsid_ray.execution.session import ray_session
from lgsid_ray.execution.storage import StageDir, resolve
from lgsid_ray.recommend import log as logs
from lgsid_ray.recommend.generators.lists import Request, write_lists
from lgsid_ray.recommend.generators.recommender import Limit, Recommender
from lgsid_ray.recommend.summary import ORIGIN

LATEST = 5
"""Visits that are printed above a list."""
FIELDS = ["name", "category_1", "city"]


def recommend_users(request: Request, wanted: Sequence[str]) -> None:
    """Print the lists of users by their IDs."""
    recommender = Recommender.load(request.cell, request.config, request.seed)
    users, unknown = numbers(recommender.user_ids, pa.array(wanted, pa.string()))
    catalogue, lacking = Items(request.cell.inputs["catalogue"]), [wanted[place] for place in unknown]
    for user in users.tolist():
        found = recommender.lists(np.array([user]), request.count, request.new, request.limit)
        before = recommender.history(user, LATEST)
        if not len(before):
            lacking.append(recommender.user_ids[user].as_py())
            continue
        _print(recommender.user_ids[user].as_py(), before, found, catalogue)
    if lacking:
        raise InputError(
            f"no history of {len(lacking)} of the users: {', '.join(map(repr, lacking[:5]))}; IDs are those of the "
            f"column user_id of {catalogue.folder.path('interactions')}"
        )


def recommend_stranger(request: Request) -> None:
    """Print the list of somebody without a history."""
    recommender = Recommender.load(request.cell, request.config, request.seed)
    tell("somebody without a history: by visits" + (" and kilometres" if request.limit.point else ""))
    catalogue = Items(request.cell.inputs["catalogue"])
    console.print(_listed(recommender.stranger(request.count, request.limit), catalogue))


def recommend_all(request: Request, file: str | None, to: str, actors: int, ray: Any) -> None:
    """Write the lists of the users of a Parquet file, or of all users of the log, into the folder `to`."""
    out = StageDir(resolve(to))
    ids = logs.users(request.cell.inputs["catalogue"])
    if file is None:
        users = np.arange(len(ids))
    else:
        users, unknown = numbers(ids, asked := _read_users(file))
        if len(unknown):
            rejects = [(row + 1, "user_id", "not in the log", str(asked[row])) for row in unknown.tolist()]
            out.make()
            Quarantine(out).write(Quarantine.of("users", file, rejects))
            tell(f"{len(unknown)} of {len(asked)} users are not in the log; see {Quarantine(out).path}")
    with ray_session(ray), Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("  users", total=len(users))
        for done in write_lists(request, users, out, actors):
            progress.advance(task, done)
    table = Recommendations(out)
    tell(f"{len(users):,} users, {table.count():,} rows: {table.path}" if len(users) else "no users: nothing written")


def request_of(
    out: str, model: str | None, tokenizer: str | None, seed: int, count: int, new: bool, limit: Limit
) -> Request:
    """A request to the latest trained generator of a run directory.

    Raises:
        ConfigError: it has none of that name. StorageError: it has none at all.
    """
    run = latest(out)
    models = [model] if model else [one.kind for one in run.config.generate.models]
    arms = [tokenizer] if tokenizer else [run.config.tokenizer.label, ORIGIN]
    found = trained(run, "generate", models, arms, seed)
    cell = cell_of(run, found, GenerateCell.model_validate(found.cell))
    return Request(cell, GenerateConfig.model_validate(found.config["generate"]), found.seed or 0, count, new, limit)


def limit_of(km: float | None, point: str | None, city: str | None) -> Limit:
    """From the command line's words.

    Raises:
        ConfigError: `point` is not LATITUDE,LONGITUDE in degrees.
    """
    if point is None:
        return Limit(km, None, city)
    try:
        lat, lon = (float(number) for number in point.split(","))
    except ValueError:
        raise ConfigError(f"--near {point!r}: expected LATITUDE,LONGITUDE in degrees, as in 40.75,-73.99") from None
    if abs(lat) > 90 or abs(lon) > 180:
        raise ConfigError(f"--near {point!r}: latitudes are within 90 degrees, longitudes within 180")
    return Limit(km, (lat, lon), city)


def numbers(ids: pa.Array, wanted: pa.Array) -> tuple[Int64, Int64]:
    """The numbers of the wanted users that there are, each once, and the places in `wanted` of those that are not."""
    found = pc.index_in(wanted, ids)
    unknown = np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False))
    known = found.drop_null().to_numpy().astype(np.int64)
    _, first = np.unique(known, return_index=True)
    return known[np.sort(first)], unknown


def _read_users(file: str) -> pa.Array:
    """The user IDs of a Parquet file, or of a folder of them, in order."""
    try:
        table = pq.read_table(file, columns=["user_id"])
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{file}: {error}") from None
    if "user_id" not in table.column_names:
        raise InputError(f"{file} has no column user_id")
    return table.column("user_id").cast(pa.string()).combine_chunks()


def _print(user: str, before: Int64, found: pa.Table, catalogue: Items) -> None:
    tell(f"{user}: latest visits {'; '.join(_named(row) for row in _rows(catalogue, before))}")
    console.print(_listed(found, catalogue))


def _listed(found: pa.Table, catalogue: Items) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("", "probability", "km", "visits"):
        table.add_column(name, justify="right")
    for name in ("item_id", "SID"):
        table.add_column(name, no_wrap=True)  # to be copied
    for name in FIELDS:
        table.add_column(name.removesuffix("_1"))
    rows = found.to_pylist()
    for row, item in zip(rows, _rows(catalogue, found.column("item_index").to_numpy()), strict=True):
        figures = [str(row["rank"]), f"{row['probability']:.3f}", "" if row["km"] is None else f"{row['km']:.2f}"]
        texts = (row["item_id"], row["sid"], *(item[name] for name in FIELDS))
        table.add_row(*figures, str(row["visits"] or ""), *(Text(text or "") for text in texts))
    return table


def _rows(catalogue: Items, items: Int64) -> list[dict[str, Any]]:
    """Fields of items, which may be there several times."""
    distinct, which = np.unique(items, return_inverse=True)
    rows = catalogue.rows(distinct, FIELDS).to_pylist()
    return [rows[place] for place in which]


def _named(item: dict[str, Any]) -> str:
    return ", ".join(filter(None, (item["name"], item["city"])))
