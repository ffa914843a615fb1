"""The kin of an item: who shares how many of its first tokens, found by reading the SIDs part by part."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import AnyInt, Int64
from lgsid_ray.artifacts import Sids
from lgsid_ray.artifacts.table import matrix


@dataclass(frozen=True)
class Subject:
    """An item that is asked about, as the tokenizer has it."""

    index: int
    item_id: str
    tokens: tuple[int, ...]
    sid: str


@dataclass(frozen=True)
class Kin:
    """All items whose first token is the subject's, the subject among them.

    Attributes:
        index: (m,) item_index, ascending. depth: (m,) how many of the first tokens are the subject's, 1 … levels.
    """

    index: Int64
    depth: Int64

    def sharing(self, prefix: int) -> Int64:
        """item_index of those who share the first `prefix` tokens."""
        return self.index[self.depth >= prefix]


def subjects(sids: Sids, wanted: Sequence[str]) -> dict[str, Subject]:
    """The items with these item_ids; those that there are not are left out."""
    found = {}
    for table in sids.scan(["item_index", "item_id", "tokens", "sid"]):
        for row in table.filter(pc.is_in(table.column("item_id"), value_set=pa.array(wanted))).to_pylist():
            found[row["item_id"]] = Subject(row["item_index"], row["item_id"], tuple(row["tokens"]), row["sid"])
    return found


def kin_of(sids: Sids, asked: Sequence[Subject]) -> list[Kin]:
    """The kin of each subject; memory is that of one part, and 16 bytes for each of the kin."""
    found: list[list[tuple[Int64, Int64]]] = [[] for _ in asked]
    for table in sids.scan(["item_index", "tokens"]):
        index, tokens = table.column("item_index").to_numpy(), matrix(table.column("tokens"))
        for parts, subject in zip(found, asked, strict=True):
            depth = shared(tokens, subject.tokens)
            parts.append((index[depth > 0], depth[depth > 0]))
    return [Kin(*_ascending(*map(np.concatenate, zip(*parts, strict=True)))) for parts in found]


def shared(tokens: AnyInt, mine: Sequence[int]) -> Int64:
    """(n,) how many of the first tokens of each row (n, levels) are `mine`."""
    return np.logical_and.accumulate(tokens == np.asarray(mine), axis=1).sum(axis=1)


def _ascending(index: Int64, depth: Int64) -> tuple[Int64, Int64]:
    order = np.argsort(index, kind="stable")
    return index[order], depth[order]
