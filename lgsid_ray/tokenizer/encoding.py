"""All items of a catalogue through a fitted tokenizer, span by span; and its last tokens shared out, bucket by bucket.

    encode   a stream of spans through a pool of actors that hold the tokenizer: one part of tokens a span
    share    where last tokens are shared out, a span also leaves its residuals, by bucket of what comes before the
             tokens that may move; one unit a bucket then settles those tokens, and sends those that moved back by span

Parts that stand are not computed again, so a killed stage goes on in the middle.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from threadpoolctl import threadpool_limits

from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.artifacts.keys import pack_sids
from lgsid_ray.artifacts.spans import Span
from lgsid_ray.artifacts.table import lists, matrix
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.execution.stream import stream
from lgsid_ray.tokenizer.encoded import ENCODING, MOVED, TOKENS, Encoded, part
from lgsid_ray.tokenizer.features import COLUMNS
from lgsid_ray.tokenizer.metrics import Errors
from lgsid_ray.tokenizer.sharing import share_out, shared_levels
from lgsid_ray.tokenizer.tokenizer import Tokenizer

LEFT, SHARED = f"{ENCODING}/left", f"{ENCODING}/shared"
Make = Callable[[Tokenizer, StageDir, int], None]
"""Writes the part of a number."""


def encode_all(work: list[Span], out: StageDir, actors: int, shared: bool) -> tuple[Encoded, Errors]:
    """Tokens of all items by the tokenizer that is saved in `out`, and what the levels leave.

    Args:
        shared: share the last tokens out (see `sharing`), else each item has those that it chose.
    """
    encoded = Encoded(out, [span.start for span in work] + [work[-1].stop])
    errors = _stream(partial(_encode, work, shared), range(len(work)), out, actors, TOKENS)
    if shared:
        buckets = sorted(map(int, out.members(LEFT)))
        left = _stream(partial(_share, encoded), buckets, out, actors, SHARED).left
        errors = replace(errors, left=[*errors.left[: -len(left)], *left])
    return encoded, errors


def _encode(work: list[Span], shared: bool, tokenizer: Tokenizer, out: StageDir, number: int) -> None:
    """Keys and tokens of a span; their errors in the table's metadata."""
    span = work[number]
    items = span.read_items(["item_id", *(COLUMNS if tokenizer.transform else ())])
    embeddings = span.read_embeddings()
    tokens = tokenizer.encode(items, embeddings)
    keys = {name: items.column(name) for name in ("item_index", "item_id")}
    columns = {**keys, "tokens": lists(tokens, pa.int32())}
    if shared:
        fixed = len(tokenizer.levels) - shared_levels(tokenizer.levels)
        left = tokenizer.enter(items, embeddings)[0] - tokenizer.quantised(tokens[:, :fixed])
        table = {**columns, "left": column(left)}
        if tokenizer.latent:  # else what is left tells the errors
            table["embedding"] = column(embeddings)
        bucket = pack_sids(tokens, [level.size for level in tokenizer.levels[:fixed]]) % len(work)
        for one in np.unique(bucket):
            out.write_table(f"{LEFT}/{one}/{part(number)}", pa.table(table).filter(pa.array(bucket == one)))
    _write(out, f"{TOKENS}/{part(number)}", pa.table(columns), Errors.of(tokenizer, embeddings, tokens))


def _share(encoded: Encoded, tokenizer: Tokenizer, out: StageDir, number: int) -> None:
    """The last tokens of a bucket's items, where they are not those chosen; what their levels leave, once all stand."""
    count = shared_levels(tokenizer.levels)
    fixed, last = tokenizer.levels[:-count], tokenizer.levels[-count:]
    # Of items alike the one whose key comes first is served first, wherever it stands in the catalogue.
    table = out.read_table(f"{LEFT}/{number}").sort_by("item_id")
    chosen, left = matrix(table.column("tokens")), matrix(table.column("left"))
    tokens = chosen.copy()
    group = pack_sids(tokens, [level.size for level in fixed])
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        tokens[rows, -count:] = share_out(last, left[rows], tokens[rows, -count:])
    if tokenizer.latent:
        errors = Errors.of(tokenizer, matrix(table.column("embedding")), tokens)
    else:
        errors = Errors.of(Tokenizer(tokenizer.kind, last), left, tokens[:, -count:])
    moved = (tokens != chosen).any(axis=1)
    index, last_tokens = table.column("item_index").to_numpy()[moved], tokens[moved, -count:]
    spans = encoded.spans_of(index)
    for one in np.unique(spans):
        mine = spans == one
        back = pa.table({"item_index": index[mine], "tokens": lists(last_tokens[mine], pa.int32())})
        out.write_table(f"{MOVED}/{one}/{part(number)}", back)
    moves = pa.table({"moved": [len(index)]})
    _write(out, f"{SHARED}/{part(number)}", moves, replace(errors, left=errors.left[-count:]))


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


def _stream(make: Make, numbers: Sequence[int], out: StageDir, actors: int, target: str) -> Errors:
    """What the levels leave in the parts of `target` with these numbers, which are made where they do not stand yet."""
    standing = out.members(target)
    missing = [{"number": number} for number in numbers if part(number) not in standing]
    if missing:
        for _ in stream(_Worker, (make, out), missing, actors):
            pass
    parts = [out.read_part(out.path(f"{target}/{part(number)}"), []) for number in numbers]  # their metadata alone
    found: Errors = np.sum([Errors(**json.loads(one.schema.metadata[b"errors"])) for one in parts])
    return found


def _write(out: StageDir, name: str, table: pa.Table, errors: Errors) -> None:
    out.write_table(name, table.replace_schema_metadata({"errors": json.dumps(asdict(errors))}))
