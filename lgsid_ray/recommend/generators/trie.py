"""A compact prefix tree of SIDs: which tokens may follow a prefix, and which items stand at its end."""

from dataclasses import dataclass

import numpy as np

from lgsid_ray.arrays import AnyInt, Int64


@dataclass(frozen=True)
class Trie:
    """Nodes numbered breadth first, so that a node's children are contiguous, ascending by token (CSR)."""

    first: Int64
    """(nodes + 1,) the children of node s are the nodes first[s] … first[s + 1] − 1."""
    token: Int64
    """(nodes,) the token that leads to each node; −1 at the root."""
    key: Int64
    """(nodes,) parent × width + token, ascending; −1 at the root."""
    width: int
    """More than any token."""
    begin: Int64
    """(leaves + 1,) spans of `order`, one per leaf."""
    order: Int64
    """(n,) item_index by SID, ascending among equals."""
    root: int = 0

    @classmethod
    def build(cls, tokens: AnyInt) -> "Trie":
        """From (n, L) tokens, row = item_index."""
        order = np.lexsort(tokens.T[::-1])
        rows = tokens[order].astype(np.int64)
        width = int(rows.max()) + 1
        fresh = np.arange(len(rows)) == 0
        node, count = np.zeros(len(rows), dtype=np.int64), 1
        keys, reached = [np.array([-1])], [np.array([-1])]
        for level in rows.T:
            parent = node
            fresh = fresh | np.r_[False, level[1:] != level[:-1]]
            node = count + np.cumsum(fresh) - 1
            keys.append(parent[fresh] * width + level[fresh])
            reached.append(level[fresh])
            count += int(fresh.sum())
        key = np.concatenate(keys)
        first = np.searchsorted(key, np.arange(count + 1) * width)
        begin = np.r_[np.flatnonzero(fresh), len(rows)]
        return cls(first, np.concatenate(reached), key, width, begin, order)

    def children(self, states: Int64) -> tuple[Int64, Int64]:
        """What may follow: (m,) positions in `states` and (m,) tokens, one pair per child."""
        low, high = self.first[states], self.first[states + 1]
        count = high - low
        row = np.repeat(np.arange(len(states)), count)
        inside = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        return row, self.token[low[row] + inside]

    def step(self, states: Int64, tokens: Int64) -> Int64:
        """The states behind (s,) states and (s,) tokens, each a child of its state."""
        return np.searchsorted(self.key, states * self.width + tokens)

    def items(self, states: Int64) -> Int64:
        """The first item_index at each of (s,) leaves."""
        leaf = len(self.token) - (len(self.begin) - 1)
        return self.order[self.begin[states - leaf]]
