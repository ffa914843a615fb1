"""Exact nearest points: within one set, and across cells with a halo that is proven wide enough.

The rank of a neighbour counts *distinct points*, nearest first, ties by point key; the point itself is not ranked.
"""

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.geo.cells import bounds, gap
from lgsid_ray.geo.points import point_xyz

_SLACK = 1e-12  # rounding of a chord against rounding of a gap: widens the halo, never narrows it
_STRIDE = 16  # one reference point for about so many points


def nearest_points(tree: cKDTree, keys: Int64, rows: Int64, count: int) -> tuple[Int64, Float64]:
    """The `count` nearest other points of the points `rows`, exact and in a unique order.

    Args:
        tree: over the unit-sphere points of `keys`, which are distinct.
        rows: (q,) positions in `keys`.
        count: at most `len(keys) - 1`.

    Returns:
        Positions in `keys` and unit-sphere chords, both (q, count), by chord, ties by key.
    """
    found = np.empty((len(rows), count), dtype=np.int64)
    chords = np.empty((len(rows), count))
    pending = np.arange(len(rows))
    asked = count + 2  # the point itself, and one more to see whether the last is tied
    while pending.size:
        asked = min(asked, tree.n)
        chord, near = tree.query(tree.data[rows[pending]], k=asked)
        whole = (chord[:, -1] > chord[:, count]) | (asked == tree.n)
        done = pending[whole]
        near, chord = _order_ties(near[whole], chord[whole], keys)
        # A stable sort on "is it itself" takes the point out wherever a tie has put it.
        kept = np.argsort(near == rows[done, None], axis=1, kind="stable")[:, :count]
        found[done] = np.take_along_axis(near, kept, axis=1)
        chords[done] = np.take_along_axis(chord, kept, axis=1)
        pending = pending[~whole]
        asked *= 2
    return found, chords


def surroundings(
    own: Int64, boxes: Float64, sizes: Int64, cell: int, load: Callable[[int], Int64], count: int
) -> Int64:
    """Point keys from other cells that complete `own`: own + these hold the `count` nearest of every own point.

    For a reference point c with its `count`-th neighbour at distance d among *some* of the points, every own point p
    has its `count` nearest within |p-c| + d, hence all of them lie within 2|p-c| + d of c. What lies in a cell
    farther than that from every reference is left out, so the halo is exact by construction, not by assumption.

    Args:
        own: keys of the cell's points.
        boxes: (cells, 2, 3) tight boxes.
        sizes: (cells,) number of points in each.
        cell: the number of the own cell.
        load: gives the point keys of another cell.
        count: at most the number of points in all cells less one.
    """
    xyz = point_xyz(own)
    base = [load(int(other)) for other in _enough(boxes, sizes, cell, count + 1)]
    known = np.concatenate([xyz, *(point_xyz(keys) for keys in base)])
    references = xyz[cKDTree(xyz).indices[::_STRIDE]]
    away, assigned = cKDTree(references).query(xyz)
    spread = np.zeros(len(references))
    np.maximum.at(spread, assigned, away)
    reach = cKDTree(known).query(references, k=[count + 1])[0][:, 0] + 2 * spread + _SLACK
    halo = [np.empty(0, dtype=np.int64)]
    for other in range(len(boxes)):
        touching = gap(references, boxes[other]) <= reach
        if other == cell or not touching.any():
            continue
        keys = load(other)
        box = bounds(references[touching])
        halo.append(keys[gap(point_xyz(keys), box) <= reach[touching].max()])
    return np.concatenate(halo)


def _enough(boxes: Float64, sizes: Int64, cell: int, wanted: int) -> Int64:
    """The nearest other cells that, with the cell itself, hold at least `wanted` points."""
    if sizes[cell] >= wanted:
        return np.empty(0, dtype=np.int64)
    order = np.argsort(gap(boxes[cell].mean(axis=0), boxes), kind="stable")
    others = order[order != cell]
    held = sizes[cell] + np.cumsum(sizes[others])
    return others[: int(np.searchsorted(held, wanted)) + 1]


def _order_ties(near: Int64, chord: Float64, keys: Int64) -> tuple[Int64, Float64]:
    """Sort rows that hold equal chords by (chord, key); the tree's own order of ties is arbitrary."""
    tied = np.flatnonzero((chord[:, 1:] == chord[:, :-1]).any(axis=1))
    if tied.size:
        candidates = near[tied]
        order = np.lexsort((keys[candidates], chord[tied]), axis=-1)
        near[tied] = np.take_along_axis(candidates, order, axis=1)
        chord[tied] = np.take_along_axis(chord[tied], order, axis=1)
    return near, chord
