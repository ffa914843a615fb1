"""A compact prefix tree of SIDs: which tokens may follow a prefix, and which items stand at its end."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import ClassVar

import numpy as np
from safetensors.numpy import save

from lgsid_ray.arrays import AnyInt, Bool, Int32, Int64
from lgsid_ray.artifacts.keys import SPAN, pack_sids
from lgsid_ray.execution.storage import StageDir

FILE = "trie.safetensors"
RUN = 65_536
"""Rows that a tree is built from at once."""


@dataclass(frozen=True)
class Trie:
    """Nodes numbered breadth first, so that a node's children are contiguous, ascending by token (CSR).

    8 bytes a node, and 4 more for each leaf and for each item: at most 16 a node where SIDs are unique. At most 2^31
    nodes or items.
    """

    first: Int32
    """(nodes + 1,) the children of node s are the nodes first[s] … first[s + 1] − 1."""
    token: Int32
    """(nodes,) the token that leads to each node; −1 at the root."""
    begin: Int32
    """(leaves + 1,) spans of `order`, one per leaf."""
    order: Int32
    """(n,) item_index by SID, ascending among equals."""
    root: ClassVar = 0

    @classmethod
    def build(cls, tokens: AnyInt, items: Int64 | None = None) -> "Trie":
        """From (n, L) tokens of (n,) items, ascending; None: row = item_index."""
        order = _by_sid(tokens)
        named = np.arange(len(tokens)) if items is None else items
        return cls.of_runs((tokens[rows], named[rows]) for rows in np.split(order, range(RUN, len(order), RUN)))

    @classmethod
    def of_runs(cls, runs: Iterable[tuple[AnyInt, Int64]]) -> "Trie":
        """From (m, L) tokens and (m,) item_index of rows that ascend by both, a run of them at a time.

        Memory is that of a run and, while it is built, some 30 bytes a node.
        """
        begins, reached, order = list[list[Int32]](), list[list[Int32]](), list[Int32]()
        done, before = 0, None
        for tokens, items in runs:
            fresh = np.ones(tokens.shape, dtype=bool)
            fresh[1:] = tokens[1:] != tokens[:-1]
            if before is not None:
                fresh[0] = tokens[0] != before
            # Where the prefix up to here is another than the row's before.
            places = [np.flatnonzero(column) for column in np.logical_or.accumulate(fresh, axis=1).T]
            begins.append([(done + here).astype(np.int32) for here in places])
            reached.append([column[here].astype(np.int32) for column, here in zip(tokens.T, places, strict=True)])
            order.append(items.astype(np.int32))
            done, before = done + len(items), tokens[-1]
        begin, token = ([np.concatenate(level) for level in zip(*found, strict=True)] for found in (begins, reached))
        # A node's first child begins at the same row; leaves have none.
        first, behind = [np.array([1], np.int32)], 1 + len(begin[0])
        for here, ahead in pairwise(begin):
            first.append((behind + np.searchsorted(ahead, here)).astype(np.int32))
            behind += len(ahead)
        ends = np.full(len(begin[-1]) + 1, behind, np.int32)
        return cls(
            np.concatenate([*first, ends]),
            np.concatenate([np.array([-1], np.int32), *token]),
            np.append(begin[-1], np.int32(done)),
            np.concatenate(order),
        )

    def save(self, folder: StageDir) -> None:
        """Write `trie.safetensors`."""
        with folder.write(FILE) as file:
            file.write(save(vars(self)))

    @classmethod
    def load(cls, folder: StageDir) -> "Trie":
        """What `save` wrote, read-only. From a local disk it is mapped: processes share it, and none reads it whole.

        Raises:
            StorageError: missing or corrupt.
        """
        content = folder.map(FILE)
        try:
            body = 8 + int.from_bytes(content[:8], "little")
            header = json.loads(bytes(content[8:body]))
            parts = {}
            for name in (field.name for field in fields(cls)):
                begin, end = header[name]["data_offsets"]
                parts[name] = np.frombuffer(content[body + begin : body + end], np.int32)
                if [len(parts[name])] != header[name]["shape"]:
                    raise ValueError(f"it ends within {name!r}")
        except (KeyError, ValueError) as error:
            raise folder.corrupt(folder.path(FILE), error) from None
        return cls(**parts)

    def children(self, states: Int64) -> tuple[Int64, Int32]:
        """What may follow: (m,) positions in `states` and (m,) tokens, one pair per child."""
        low, high = self.first[states], self.first[states + 1]
        # Slices end to end cost less than gathering token by token.
        tokens = [self.token[begin:end] for begin, end in zip(low.tolist(), high.tolist(), strict=True)]
        return np.repeat(np.arange(len(states)), high - low), np.concatenate([self.token[:0], *tokens])

    def allowed(self, states: Int64, size: int) -> Bool:
        """(s, size) which of a level's tokens may follow each of (s,) states, all of the level before."""
        distinct, which = np.unique(states, return_inverse=True)  # all beams begin at the root, and many share prefixes
        places, tokens = self.children(distinct)
        places *= size
        places += tokens
        mask = np.zeros(len(distinct) * size, dtype=bool)
        mask[places] = True
        return mask.reshape(len(distinct), size)[which]

    def step(self, states: Int64, tokens: Int64) -> Int64:
        """The states behind (s,) states and (s,) tokens, each a child of its state."""
        low, high = self.first[states].astype(np.int64), self.first[states + 1].astype(np.int64) - 1
        while (low < high).any():  # bisects all children's tokens at once
            middle = (low + high) // 2
            right = self.token[middle] < tokens
            low, high = np.where(right, middle + 1, low), np.where(right, high, middle)
        return low

    def items(self, states: Int64) -> Int64:
        """The first item_index at each of (s,) leaves."""
        return self.order[self.begin[states - self._leaf]].astype(np.int64)

    def last(self, items: Int64) -> tuple[Int64, Int64]:
        """(m,) states in front of the last token of each of (m,) items, and (m,) those tokens; of a whole catalogue."""
        place = np.empty(len(self.order), np.int64)
        place[self.order] = np.arange(len(self.order))
        leaf = self._leaf + np.searchsorted(self.begin, place[items], side="right") - 1
        return np.searchsorted(self.first, leaf, side="right") - 1, self.token[leaf].astype(np.int64)

    def behind(self, prefix: Sequence[int]) -> Int32:
        """item_index of all whose SIDs begin with a prefix, in the order of their SIDs; none where no SID does."""
        state = self.root
        for token in prefix:
            low, high = self.first[state : state + 2].tolist()
            state = low + int(np.searchsorted(self.token[low:high], token))
            if state == high or self.token[state] != token:
                return self.order[:0]
        # Nodes next to each other have their children, and in the end their items, next to each other.
        low, high = state, state + 1
        while low < self._leaf:
            low, high = int(self.first[low]), int(self.first[high])
        return self.order[self.begin[low - self._leaf] : self.begin[high - self._leaf]]

    @property
    def _leaf(self) -> int:
        """The first of the leaves, which are the last nodes."""
        return len(self.token) - (len(self.begin) - 1)


def _by_sid(tokens: AnyInt) -> Int64:
    """(n,) rows in lexicographic order, ascending among equals."""
    sizes = [int(column.max()) + 1 for column in tokens.T]
    if math.prod(sizes) < SPAN:
        return np.argsort(pack_sids(tokens, sizes), kind="stable")
    return np.lexsort(tokens.T[::-1])  # as SIDs with their ranks may be; four times as slow
