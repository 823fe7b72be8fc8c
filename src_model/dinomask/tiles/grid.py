"""Which boxes lie where: a uniform grid that answers for millions of boxes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dinomask.instances import Array

Keep = Callable[["Array", "Array"], "Array"]

_PAIRS_AT_ONCE = 500_000


@dataclasses.dataclass(frozen=True)
class BoxGrid:
    """Boxes sorted into the square cells they touch; made by `of`.

    Attributes
    ----------
    boxes_yxyx_px : shape (N, 4), float64
    cell_px : side of a cell
    first_yx, count_yx : the cells in use: the first one and how many
    keys : shape (E,), int64, sorted; a cell's row-major number, once a box in it
    members : shape (E,), int64; the box of each key, ascending within a cell
    """

    boxes_yxyx_px: Array
    cell_px: float
    first_yx: tuple[int, int]
    count_yx: tuple[int, int]
    keys: Array
    members: Array

    @staticmethod
    def of(boxes_yxyx_px: Array) -> BoxGrid:
        """Sort boxes (N, 4) into cells of about twice their median side."""
        boxes = np.asarray(boxes_yxyx_px, np.float64).reshape(-1, 4)
        if not len(boxes):
            none = np.zeros(0, np.int64)
            return BoxGrid(boxes, 1.0, (0, 0), (0, 0), none, none)
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        cell_px = max(8.0, 2 * float(np.median(sides)))
        low = np.floor(boxes[:, :2] / cell_px).astype(np.int64)
        high = np.maximum(np.floor(boxes[:, 2:] / cell_px).astype(np.int64), low)
        first, count = low.min(axis=0), high.max(axis=0) - low.min(axis=0) + 1
        n_yx = high - low + 1
        members, within = _repeat(n_yx.prod(axis=1))
        y = (low - first)[members, 0] + within // n_yx[members, 1]
        x = (low - first)[members, 1] + within % n_yx[members, 1]
        keys = y * count[1] + x
        order = np.argsort(keys, kind="stable")
        return BoxGrid(
            boxes,
            cell_px,
            (int(first[0]), int(first[1])),
            (int(count[0]), int(count[1])),
            keys[order],
            members[order],
        )

    def touching(self, window_yxyx_px: tuple[int, int, int, int]) -> Array:
        """Return the boxes that share area with a window, as ascending indices."""
        window = np.asarray(window_yxyx_px, np.float64)
        low = np.floor(window[:2] / self.cell_px).astype(np.int64) - self.first_yx
        high = np.floor(window[2:] / self.cell_px).astype(np.int64) - self.first_yx
        low = np.maximum(low, 0)
        high = np.minimum(high, np.array(self.count_yx) - 1)
        if np.any(high < low):
            return np.zeros(0, np.int64)
        rows = np.arange(low[0], high[0] + 1) * self.count_yx[1]
        starts = np.searchsorted(self.keys, rows + low[1])
        ends = np.searchsorted(self.keys, rows + high[1], side="right")
        parts = [self.members[a:b] for a, b in zip(starts, ends, strict=True)]
        found = np.unique(np.concatenate(parts))
        boxes = self.boxes_yxyx_px[found]
        meets = np.all((boxes[:, :2] < window[2:]) & (boxes[:, 2:] > window[:2]), axis=1)
        return np.asarray(found[meets])

    def pairs(self, chosen: Array, keep: Keep | None = None) -> tuple[Array, Array]:
        """Pair every chosen box with every box it shares area with.

        Parameters
        ----------
        chosen : shape (N,), bool
        keep : tells of candidates a, b, each of shape (P,), which to keep, as
            bool of shape (P,); asked for some at a time, so that memory does
            not grow with what it refuses

        Returns
        -------
        a, b : shape (P,) each, ``a < b``; each pair once, in ascending order
        """
        mine = np.flatnonzero(chosen[self.members])
        starts = np.searchsorted(self.keys, self.keys[mine])
        ends = np.searchsorted(self.keys, self.keys[mine], side="right")
        blocks = np.searchsorted(
            np.cumsum(ends - starts), np.arange(0, int((ends - starts).sum()), _PAIRS_AT_ONCE)
        )
        found = [np.zeros((2, 0), np.int64)]
        for first, last in itertools.pairwise([*np.unique(blocks).tolist(), len(mine)]):
            a, b = self._pairs_of(chosen, mine[first:last], starts[first:last], ends[first:last])
            kept = slice(None) if keep is None else keep(a, b)
            found.append(np.stack([a[kept], b[kept]]))
        a, b = np.concatenate(found, axis=1)
        order = np.lexsort((b, a))
        return a[order], b[order]

    def _pairs_of(
        self, chosen: Array, mine: Array, starts: Array, ends: Array
    ) -> tuple[Array, Array]:
        """Pair the boxes of some entries with those of the entries starts to ends."""
        entry, within = _repeat(ends - starts)
        one = self.members[mine[entry]]
        other = self.members[starts[entry] + within]
        # a pair of chosen boxes is met from both sides
        fresh = (one != other) & ~(chosen[other] & (other < one))
        one, other, key = one[fresh], other[fresh], self.keys[mine[entry[fresh]]]
        boxes = self.boxes_yxyx_px
        corner = np.maximum(boxes[one, :2], boxes[other, :2])
        end = np.minimum(boxes[one, 2:], boxes[other, 2:])
        # two boxes may share many cells: the one with their common corner counts
        cell = np.floor(corner / self.cell_px).astype(np.int64) - self.first_yx
        real = np.all(end > corner, axis=1) & (cell[:, 0] * self.count_yx[1] + cell[:, 1] == key)
        return np.minimum(one[real], other[real]), np.maximum(one[real], other[real])


def _repeat(counts: Array) -> tuple[Array, Array]:
    """[2, 0, 1] -> [0, 0, 2] and [0, 1, 0]: each item's number, and a count within it."""
    item = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    return item, np.arange(len(item)) - first[item]
