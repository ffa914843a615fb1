"""All items of a catalogue through a fitted tokenizer, run by run; and its last tokens shared out, bucket by bucket.

    encode   a stream of runs of items through a pool of actors that hold the tokenizer: one part of tokens a run
    share    where last tokens are shared out, a run also leaves its residuals, by bucket of what comes before the
             tokens that may move; one task a bucket then settles those tokens

Parts that stand are not computed again, so a killed stage goes on in the middle.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from threadpoolctl import threadpool_limits

from lgsid_ray.arrays import Int32
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.artifacts.keys import pack_sids
from lgsid_ray.artifacts.spans import Span
from lgsid_ray.artifacts.table import lists, matrix
from lgsid_ray.execution.storage import SCRATCH, StageDir
from lgsid_ray.execution.stream import stream
from lgsid_ray.tokenizer.features import COLUMNS
from lgsid_ray.tokenizer.metrics import Errors
from lgsid_ray.tokenizer.sharing import share_out, shared_levels
from lgsid_ray.tokenizer.tokenizer import Tokenizer

ENCODING = f"{SCRATCH}/encoding"
"""What is left of an interrupted call; of the tokenizer that stands beside it."""
Make = Callable[[Tokenizer, StageDir, int], None]
"""Writes the part of a number."""
TOKENS, LEFT, SHARED = f"{ENCODING}/tokens", f"{ENCODING}/left", f"{ENCODING}/shared"


@dataclass(frozen=True)
class Encoded:
    """All items, in order.

    Attributes:
        item_id: keys. tokens: (n, L). errors: what the levels leave.
    """

    item_id: pa.ChunkedArray
    tokens: Int32
    errors: Errors


def encode_all(work: list[Span], out: StageDir, actors: int, shared: bool) -> Encoded:
    """Tokens of all items by the tokenizer that is saved in `out`; the driver holds keys and tokens.

    Args:
        shared: share the last tokens out (see `sharing`), else each item has those that it chose.
    """
    tables = _stream(partial(_encode, work, shared), range(len(work)), out, actors, TOKENS)
    item_id = pa.chunked_array([table.column("item_id").combine_chunks() for table in tables])
    tokens: Int32 = np.concatenate([matrix(table.column("tokens")) for table in tables])
    errors = _errors(tables)
    if shared:
        tables = _stream(_share, sorted(map(int, out.members(LEFT))), out, actors, SHARED)
        for table in tables:
            settled = matrix(table.column("tokens"))
            tokens[table.column("item_index").to_numpy(), -settled.shape[1] :] = settled
        left = _errors(tables).left
        errors = replace(errors, left=[*errors.left[: -len(left)], *left])
    return Encoded(item_id, tokens, errors)


def _encode(work: list[Span], shared: bool, tokenizer: Tokenizer, out: StageDir, number: int) -> None:
    """Keys and tokens of a run of items; their errors in the table's metadata."""
    span = work[number]
    items = span.read_items(["item_id", *(COLUMNS if tokenizer.transform else ())])
    embeddings = span.read_embeddings()
    tokens = tokenizer.encode(items, embeddings)
    columns = {"item_id": items.column("item_id"), "tokens": lists(tokens, pa.int32())}
    if shared:
        fixed = len(tokenizer.levels) - shared_levels(tokenizer.levels)
        left = tokenizer.enter(items, embeddings)[0] - tokenizer.quantised(tokens[:, :fixed])
        table = {"item_index": items.column("item_index"), **columns, "left": column(left)}
        if tokenizer.latent:  # else what is left tells the errors
            table["embedding"] = column(embeddings)
        bucket = pack_sids(tokens, [level.size for level in tokenizer.levels[:fixed]]) % len(work)
        for one in np.unique(bucket):
            out.write_table(f"{LEFT}/{one}/{_part(number)}", pa.table(table).filter(pa.array(bucket == one)))
    _write(out, f"{TOKENS}/{_part(number)}", pa.table(columns), Errors.of(tokenizer, embeddings, tokens))


def _share(tokenizer: Tokenizer, out: StageDir, number: int) -> None:
    """The last tokens of a bucket's items; what their levels leave in the table's metadata."""
    count = shared_levels(tokenizer.levels)
    fixed, last = tokenizer.levels[:-count], tokenizer.levels[-count:]
    # Of items alike the one whose key comes first is served first, wherever it stands in the catalogue.
    table = out.read_table(f"{LEFT}/{number}").sort_by("item_id")
    tokens, left = matrix(table.column("tokens")).copy(), matrix(table.column("left"))
    group = pack_sids(tokens, [level.size for level in fixed])
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        tokens[rows, -count:] = share_out(last, left[rows], tokens[rows, -count:])
    if tokenizer.latent:
        errors = Errors.of(tokenizer, matrix(table.column("embedding")), tokens)
    else:
        errors = Errors.of(Tokenizer(tokenizer.kind, last), left, tokens[:, -count:])
    settled = pa.table({"item_index": table.column("item_index"), "tokens": lists(tokens[:, -count:], pa.int32())})
    _write(out, f"{SHARED}/{_part(number)}", settled, replace(errors, left=errors.left[-count:]))


class _Worker:
    """An actor of a stream: holds the tokenizer and makes the parts whose numbers it is given."""

    def __init__(self, make: Make, out: StageDir) -> None:
        torch.set_num_threads(1)  # the actors are the parallelism
        threadpool_limits(1, "blas")
        self._make, self._out = make, out
        self._tokenizer: Tokenizer | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._tokenizer is None:
            # Not in the constructor: of what fails there Ray passes on the text alone, and tries it again before.
            self._tokenizer = Tokenizer.load(self._out)
        for number in batch["number"]:
            self._make(self._tokenizer, self._out, int(number))
        return batch


def _stream(make: Make, numbers: Sequence[int], out: StageDir, actors: int, target: str) -> list[pa.Table]:
    """The parts of `target` with these numbers, made where they do not stand yet."""
    standing = out.members(target)
    missing = [{"number": number} for number in numbers if _part(number) not in standing]
    if missing:
        for _ in stream(_Worker, (make, out), missing, actors):
            pass
    return [out.read_part(out.path(f"{target}/{_part(number)}")) for number in numbers]


def _errors(tables: list[pa.Table]) -> Errors:
    found: Errors = np.sum([Errors(**json.loads(table.schema.metadata[b"errors"])) for table in tables])
    return found


def _write(out: StageDir, name: str, table: pa.Table, errors: Errors) -> None:
    out.write_table(name, table.replace_schema_metadata({"errors": json.dumps(asdict(errors))}))


def _part(number: int) -> str:
    return f"part-{number:05d}.parquet"
