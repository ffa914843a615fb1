"""Cells that adapt to density: boxes of a k-d partition of the unit sphere.

Dense towns are cut finer than empty land, so every cell holds about as many points. A cell is a box in x, y, z, so
the distance from a point to a cell is exact and cheap, which makes halos exact everywhere, poles included.
"""

from dataclasses import dataclass

import numpy as np

from lgsid_ray.arrays import Float64, Int64


@dataclass(frozen=True)
class Cells:
    """A binary tree in arrays; node 0 is the root. `axis` is -1 at a cell, whose number is then `low`."""

    axis: Int64
    split: Float64
    """Points with coordinate < split go to node `low`, the others to `high`."""
    low: Int64
    high: Int64
    count: int
    """Number of cells."""

    def locate(self, xyz: Float64) -> Int64:
        """The cell of each point, (n,)."""
        cell = np.empty(len(xyz), dtype=np.int64)
        pending = [(0, np.arange(len(xyz)))]
        while pending:
            node, rows = pending.pop()
            axis = self.axis[node]
            if axis < 0:
                cell[rows] = self.low[node]
                continue
            below = xyz[rows, axis] < self.split[node]
            pending += [(int(self.low[node]), rows[below]), (int(self.high[node]), rows[~below])]
        return cell


def partition(sample: Float64, capacity: int) -> Cells:
    """Cells that hold at most `capacity` of the sampled points each, coinciding points excepted.

    Args:
        sample: (n, 3) points, a uniform sample of what will be partitioned.
    """
    axes, splits, lows, highs = [-1], [0.0], [0], [0]
    pending = [(0, np.arange(len(sample)))]
    count = 0
    while pending:
        node, rows = pending.pop()
        cut = _cut(sample[rows]) if len(rows) > capacity else None
        if cut is None:
            lows[node] = count
            count += 1
            continue
        axes[node], splits[node] = cut
        below = sample[rows, axes[node]] < splits[node]
        lows[node], highs[node] = len(axes), len(axes) + 1
        for child, members in ((lows[node], rows[below]), (highs[node], rows[~below])):
            axes.append(-1)
            splits.append(0.0)
            lows.append(0)
            highs.append(0)
            pending.append((child, members))
    return Cells(np.array(axes), np.array(splits), np.array(lows), np.array(highs), count)


def gap(xyz: Float64, box: Float64) -> Float64:
    """Euclidean distance from points (..., 3) to boxes (..., 2, 3) of lows and highs; 0 inside. Broadcasts."""
    outside = np.maximum(np.maximum(box[..., 0, :] - xyz, xyz - box[..., 1, :]), 0.0)
    return np.sqrt((outside**2).sum(axis=-1))


def bounds(xyz: Float64) -> Float64:
    """The tight box (2, 3) around points (n, 3), n at least 1."""
    return np.stack([xyz.min(axis=0), xyz.max(axis=0)])


def _cut(points: Float64) -> tuple[int, float] | None:
    """Axis and threshold that halve the points, or None where they coincide."""
    axis = int(np.ptp(points, axis=0).argmax())
    values = points[:, axis]
    lowest = values.min()
    if values.max() == lowest:
        return None
    middle = float(np.median(values))
    if middle > lowest:
        return axis, middle
    return axis, float(values[values > lowest].min())
