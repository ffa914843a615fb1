"""Which code a row goes to: a function of that row and the codes alone, whatever else is in the batch. No Ray here.

A row x goes to the code j of least ‖x - μ_j‖² + p_j. Without prices p that is the nearest; with them the codes' regions
are a power diagram, whose prices can give every code its share of rows (Aurenhammer, Hoffmann and Aronov, 1998).
"""

import numpy as np
import torch

from lgsid_ray.arrays import Float32, Float64, Int64

BLOCK = 1024  # rows compared at once: few enough for their scores to stay in a core's cache
_SETTLED = 1 << 22  # numbers of the differences that are taken at once to settle near ties


class Codes:
    """Codes made ready to be compared with blocks of rows.

    Attributes:
        centroids: (k, d). price: (k,) float64 of the codes, in units of squared distance; 0 where all are alike.
    """

    def __init__(self, centroids: Float32, price: Float32 | None = None) -> None:
        self.centroids = np.ascontiguousarray(centroids)
        self.price = np.zeros(len(centroids)) if price is None else price.astype(np.float64)
        squares = np.square(centroids, dtype=np.float64).sum(axis=1) + self.price
        self._offset = torch.from_numpy((squares / -2).astype(np.float32))
        self._transposed = torch.from_numpy(self.centroids).T
        # Memory for a block, wherever it lies, and its scores: to ask for it anew costs as much as to choose from it.
        self._block = torch.empty(BLOCK, centroids.shape[1])
        self._scores = torch.empty(BLOCK, len(centroids))
        self._length = float(np.sqrt(np.abs(squares).max(initial=0.0)))

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.centroids)

    def scores(self, block: Float32) -> Float32:
        """(n, k) x·μ - (‖μ‖² + p) / 2 of at most BLOCK (n, d) rows, greatest where ‖x - μ‖² + p is least.

        One matrix product, into memory that the next call writes to again.
        """
        rows, out = self._block[: len(block)], self._scores[: len(block)]
        rows.numpy()[:] = block
        # By torch: NumPy's and SciPy's products were seen to take three times as long on processors of one maker.
        return torch.addmm(self._offset, rows, self._transposed, out=out).numpy()

    def labels(self, block: Float32, score: Float32) -> Int64:
        """(n,) codes of (n, d) rows by their scores, which are used up; of equals as float64 tells them the first.

        Products round as their batch has it, so what they cannot tell apart is settled by differences in float64.
        """
        every, label = np.arange(len(block)), score.argmax(axis=1)
        top = score[every, label]
        score[every, label] = -np.inf
        bound = self.rounding(block)
        unsure = np.flatnonzero(~(top - torch.from_numpy(score).amax(dim=1).numpy() > bound))
        if len(unsure):
            score[every, label] = top
            near = score[unsure] >= (top - bound)[unsure, None]
            label[unsure] = self._settled(block[unsure], near)
        return label

    def rounding(self, block: Float32) -> Float64:
        """(n,) bounds on the error of the difference of two scores, in whatever order their terms are added.

        A product of d terms is off by at most d·u·‖x‖‖μ‖, u half of float32's epsilon (Higham, 2002, section 3.1);
        some terms more cover the offset, the difference and this bound itself, and the tiny what underflows.
        """
        norms = np.sqrt(np.einsum("ij,ij->i", block, block)).astype(np.float64)
        relative = float(np.finfo(np.float32).eps) * self._length * (norms + self._length / 2)
        return (block.shape[1] + 16) * (relative + float(np.finfo(np.float32).tiny))

    def _settled(self, rows: Float32, near: np.ndarray) -> Int64:
        """(m,) the first code of least cost in float64, of those that (m, k) `near` leaves each row."""
        label = np.empty(len(rows), np.int64)
        step = max(1, _SETTLED // max(1, self.centroids.size))
        for start in range(0, len(rows), step):
            some = near[start : start + step]
            row, code = np.nonzero(some)
            apart = rows[start + row].astype(np.float64) - self.centroids[code]
            cost = np.full(some.shape, np.inf)
            cost[row, code] = np.square(apart).sum(axis=1) + self.price[code]
            label[start : start + step] = cost.argmin(axis=1)
        return label


def assign(rows: Float32, centroids: Float32, price: Float32 | None = None) -> Int64:
    """(n,) the code of least ‖x - μ‖² + p for each of (n, d) rows; of equals, as float64 tells them, the first.

    Args:
        rows: (n, d). centroids: (k, d). price: (k,) p, in units of squared distance; None: all alike.
    """
    codes, label = Codes(centroids, price), np.empty(len(rows), np.int64)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        label[start : start + BLOCK] = codes.labels(block, codes.scores(block))
    return label


def assign_by_angle(rows: Float32, centroids: Float32, price: Float32 | None = None) -> Int64:
    """`assign` of the rows' directions: with unit centroids ‖x/‖x‖ - μ‖² is 2 - 2 cos(x, μ)."""
    return assign(directions(rows), centroids, price)


def directions(rows: Float32) -> Float32:
    """(n, d) rows scaled to length 1; zero stays zero."""
    norms = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
    return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)


def squares(rows: Float32, centroids: Float32, label: Int64) -> Float64:
    """(n,) squared distances of (n, d) rows to the centroids that `label` names.

    From the differences themselves, not from products: no cancellation, so an exact hit has distance 0.
    """
    distance, mu = np.empty(len(rows), np.float64), torch.from_numpy(centroids)
    for start in range(0, len(rows), BLOCK):
        block, mine = torch.from_numpy(rows[start : start + BLOCK]), torch.from_numpy(label[start : start + BLOCK])
        distance[start : start + BLOCK] = (block - mu[mine]).square().sum(1).numpy()
    return distance
