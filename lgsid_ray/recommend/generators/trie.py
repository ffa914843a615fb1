"""A compact prefix tree of SIDs: which tokens may follow a prefix, and which items stand at its end."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lgsid_ray.arrays import AnyInt, Int32, Int64


@dataclass(frozen=True)
class Trie:
    """Nodes numbered breadth first, so that a node's children are contiguous, ascending by token (CSR).

    8 bytes a node, and 4 more for each leaf and for each item; at most 2^31 of either.
    """

    first: Int32
    """(nodes + 1,) the children of node s are the nodes first[s] … first[s + 1] − 1."""
    token: Int32
    """(nodes,) the token that leads to each node; −1 at the root."""
    begin: Int32
    """(leaves + 1,) spans of `order`, one per leaf."""
    order: Int32
    """(n,) item_index by SID, ascending among equals."""
    root: int = 0

    @classmethod
    def build(cls, tokens: AnyInt) -> "Trie":
        """From (n, L) tokens, row = item_index."""
        order = np.lexsort(tokens.T[::-1])
        fresh = np.arange(len(order)) == 0
        begins, reached = list[Int64](), [np.array([-1], np.int32)]
        for column in tokens.T:
            level = column[order].astype(np.int32)
            # Where the prefix up to here is another than the row's before.
            fresh = fresh | np.r_[False, level[1:] != level[:-1]]
            begins.append(np.flatnonzero(fresh))
            reached.append(level[begins[-1]])
        # A node's first child begins at the same row; leaves have none.
        first, behind = [np.array([1])], 1 + len(begins[0])
        for here, ahead in pairwise(begins):
            first.append(behind + np.searchsorted(ahead, here))
            behind += len(ahead)
        ends = np.full(len(begins[-1]) + 1, behind)
        return cls(
            np.concatenate([*first, ends]).astype(np.int32),
            np.concatenate(reached),
            np.r_[begins[-1], len(order)].astype(np.int32),
            order.astype(np.int32),
        )

    def children(self, states: Int64) -> tuple[Int64, Int32]:
        """What may follow: (m,) positions in `states` and (m,) tokens, one pair per child."""
        low, high = self.first[states], self.first[states + 1]
        count = high - low
        row = np.repeat(np.arange(len(states)), count)
        inside = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        return row, self.token[low[row] + inside]

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
        leaf = len(self.token) - (len(self.begin) - 1)
        return self.order[self.begin[states - leaf]].astype(np.int64)
