"""Cut an object along a drawn line.

The line is taken as it is drawn, between pixels too: steps from a pixel of the object to one of
its eight neighbours that cross the line are forbidden, and what is still connected is a part.
So a line between two pixels parts them, and no pixel is lost to the line itself.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import skimage.measure
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from dinomask.errors import CorrectionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dinomask.instances import Array

SLIVER_SHARE = 0.02
"""Parts below this share of the object come of a trembling hand; they go to a neighbour."""

_SMOOTHING_PX = 0.25
_DIRECTION_PX = 4.0
"""Length of the end of a line that tells where it was going."""

_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
_ALL_EIGHT = np.ones((3, 3), bool)
# a line through the very centre of pixels would be on no side of them
_ASIDE_YX = np.array([3.7e-6, 7.3e-6])


def split_mask(mask_yx: Array, line_yx_px: Array, corner_yx_px: tuple[int, int] = (0, 0)) -> Array:
    """Cut a mask along a line that may cross it only partly.

    A line that ends inside is prolonged straight on: first to where it leaves the object,
    and if that parts nothing (an object with a hole), all through it. Pieces of an object
    that lie apart are parted by a line between them. Parts of less than `SLIVER_SHARE`
    beside two larger ones, and pieces that the line doesn't meet, go to the nearest part.

    Parameters
    ----------
    mask_yx : bool
    line_yx_px : shape (N, 2), N >= 2 points of the line, in image pixels
    corner_yx_px : where the mask begins in the image

    Returns
    -------
    shape of the mask, int32; 0 outside, 1, 2, … the parts, the largest first

    Raises
    ------
    CorrectionError
        If the line misses the object, or can't part it.
    """
    mask_yx = np.asarray(mask_yx, bool)
    line = _checked(line_yx_px) - np.array(corner_yx_px, np.float64) + _ASIDE_YX
    whole, n_whole = ndimage.label(mask_yx, _ALL_EIGHT)
    if not _meets(mask_yx, line):
        if n_whole > 1:
            return _by_side(whole, line)
        raise _cannot(got="a line beside the object")
    best, best_px = None, 0
    for drawn in (line, _prolonged(line, mask_yx), _prolonged(line, None, mask_yx.shape)):
        parts, second_px = _cut(mask_yx, whole, drawn)
        if second_px > best_px:
            best, best_px = parts, second_px
        if best_px >= SLIVER_SHARE * mask_yx.sum():
            break
    if best is None:
        raise _cannot(got="a line that leaves it in one piece")
    return _by_size(best)


def _checked(line_yx_px: Array) -> Array:
    line = np.array(line_yx_px, np.float64)
    if line.ndim != 2 or line.shape[1:] != (2,) or len(line) < 2 or not np.isfinite(line).all():
        raise _cannot(got=f"points of shape {line.shape}")
    moved = np.any(line[1:] != line[:-1], axis=1)
    line = line[np.concatenate([[True], moved])]
    if len(line) < 2:
        raise _cannot(got="a single point")
    simple = skimage.measure.approximate_polygon(  # type: ignore[no-untyped-call]
        line, _SMOOTHING_PX
    )
    # a closed curve shrinks to less than a line where it is narrow
    return np.asarray(simple if len(simple) > 1 else line)


def _meets(mask_yx: Array, line: Array) -> bool:
    """Tell whether a point of the line lies in the mask, or a step within it crosses the line."""
    for start, end in _segments(line):
        n = 2 + int(2 * math.dist(start, end))
        points = np.floor(np.linspace(start, end, n)).astype(int)
        inside = ((points >= 0) & (points < mask_yx.shape)).all(axis=1)
        if mask_yx[tuple(points[inside].T)].any():
            return True
    return any(bool(cut.any()) for cut in _forbidden(mask_yx, line))


def _cut(mask_yx: Array, whole: Array, line: Array) -> tuple[Array, int]:
    """Return the parts, and the pixels of the second largest; 0 if nothing is parted."""
    parts, n_parts = _connected(mask_yx, line)
    areas = np.bincount(parts[mask_yx], minlength=n_parts + 1)
    first = np.zeros(n_parts + 1, np.int64)
    first[parts[mask_yx]] = whole[mask_yx]
    # pieces that the line parts: more than one part comes of them
    met = np.bincount(first[1:]) > 1
    candidates = np.flatnonzero(met[first] & (areas > 0))
    ranked = candidates[np.argsort(-areas[candidates], kind="stable")]
    if len(ranked) < 2:
        return parts, 0
    enough = SLIVER_SHARE * mask_yx.sum()
    kept = [k for rank, k in enumerate(ranked) if rank < 2 or areas[k] >= enough]
    return _to_nearest(mask_yx, parts, kept), int(areas[ranked[1]])


def _connected(mask_yx: Array, line: Array) -> tuple[Array, int]:
    """Label what can be reached without a step across the line."""
    numbers = np.cumsum(mask_yx).reshape(mask_yx.shape) - 1
    ends: list[Array] = []
    for (dy, dx), cut in zip(_STEPS, _forbidden(mask_yx, line), strict=True):
        here, there = _shifted(mask_yx.shape, dy, dx)
        steps = mask_yx[here] & mask_yx[there] & ~cut[here]
        ends.append(np.stack([numbers[here][steps], numbers[there][steps]]))
    a, b = np.concatenate(ends, axis=1)
    n = int(mask_yx.sum())
    graph = sparse.coo_array((np.ones(len(a), np.int8), (a, b)), shape=(n, n))
    n_parts, labels = connected_components(graph, directed=False)
    parts = np.zeros(mask_yx.shape, np.int32)
    parts[mask_yx] = labels + 1
    return parts, int(n_parts)


def _forbidden(mask_yx: Array, line: Array) -> list[Array]:
    """Return for each kind of step which pixels may not make it, within the mask."""
    forbidden = []
    for dy, dx in _STEPS:
        cut = np.zeros(mask_yx.shape, bool)
        for start, end in _segments(line):
            low = np.floor(np.minimum(start, end)).astype(int) - 2
            high = np.ceil(np.maximum(start, end)).astype(int) + 2
            y0, x0 = np.clip(low, 0, mask_yx.shape)
            y1, x1 = np.clip(high, 0, mask_yx.shape)
            if y0 < y1 and x0 < x1:
                cut[y0:y1, x0:x1] |= _crosses((y0, x0, y1, x1), (dy, dx), start, end)
        here, there = _shifted(mask_yx.shape, dy, dx)
        within = np.zeros(mask_yx.shape, bool)
        within[here] = mask_yx[here] & mask_yx[there]
        forbidden.append(cut & within)
    return forbidden


def _crosses(
    window: tuple[int, int, int, int], step_yx: tuple[int, int], start: Array, end: Array
) -> Array:
    """Tell for each pixel of a window whether a step from its centre crosses a segment."""
    y0, x0, y1, x1 = window
    dy, dx = step_yx
    ay, ax = start
    uy, ux = end - start
    py = np.arange(y0, y1)[:, None] + 0.5 - ay
    px = np.arange(x0, x1)[None, :] + 0.5 - ax
    side = uy * px - ux * py
    across = uy * dx - ux * dy
    if across == 0:
        return np.zeros(side.shape, bool)
    # the centre p and the step d meet the segment a + t u at t = (p - a) × d / u × d
    along = (py * dx - px * dy) / across
    tolerance = 1e-9
    on_segment = (along >= -tolerance) & (along <= 1 + tolerance)
    return np.asarray(((side >= 0) != (side + across >= 0)) & on_segment)


def _shifted(
    shape_yx: tuple[int, int], dy: int, dx: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the pixels that have a neighbour a step on, and those neighbours."""
    height, width = shape_yx
    here = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
    there = (slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
    return here, there


def _segments(line: Array) -> Iterator[tuple[Array, Array]]:
    yield from itertools.pairwise(line)


def _prolonged(line: Array, mask_yx: Array | None, shape_yx: tuple[int, ...] = ()) -> Array:
    """Return the line with both ends going straight on, out of the mask or out of its box."""
    first = _end(line[::-1], mask_yx, shape_yx)
    last = _end(line, mask_yx, shape_yx)
    return np.concatenate([first[None], line, last[None]])


def _end(line: Array, mask_yx: Array | None, shape_yx: tuple[int, ...]) -> Array:
    """Return where the line's last point gets to."""
    end = line[-1]
    back = np.linalg.norm(line - end, axis=1)
    # the last few pixels tell the direction, not the last twitch
    far = np.flatnonzero(back >= _DIRECTION_PX)
    from_yx = line[far[-1]] if len(far) else line[int(back.argmax())]
    way = (end - from_yx) / np.linalg.norm(end - from_yx)
    if mask_yx is None:
        # from anywhere near the box this is beyond its other side
        return np.asarray(end + way * (math.hypot(*shape_yx) + float(np.abs(end).max())))
    point = end.copy()
    while _is_set(mask_yx, point):
        point += 0.5 * way
    return np.asarray(point + way)


def _is_set(mask_yx: Array, point_yx: Array) -> bool:
    y, x = np.floor(point_yx).astype(int)
    height, width = mask_yx.shape
    return bool(0 <= y < height and 0 <= x < width and mask_yx[y, x])


def _by_side(whole: Array, line: Array) -> Array:
    """Part pieces that lie apart by the side of the line's chord they lie on."""
    start, end = line[0], line[-1]
    if np.allclose(start, end):
        raise _cannot(got="a closed line between its pieces")
    centres = np.array(ndimage.center_of_mass(whole > 0, whole, range(1, whole.max() + 1))) + 0.5
    (uy, ux), (py, px) = end - start, (centres - start).T
    left = uy * px - ux * py >= 0
    if left.all() or not left.any():
        raise _cannot(got="a line beside the object")
    sides = np.concatenate([[0], np.where(left, 1, 2)]).astype(np.int32)
    return _by_size(sides[whole])


def _to_nearest(mask_yx: Array, parts: Array, kept: list[int]) -> Array:
    """Give the parts that are kept the numbers from 1, and other pixels to the nearest."""
    number = np.zeros(int(parts.max()) + 1, np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    numbered = number[parts]
    if (numbered[mask_yx] == 0).any():
        _, (y, x) = ndimage.distance_transform_edt(numbered == 0, return_indices=True)
        numbered = np.where(mask_yx, numbered[y, x], 0)
    return np.asarray(numbered.astype(np.int32))


def _by_size(parts: Array) -> Array:
    """Renumber parts so that the largest is 1."""
    areas = np.bincount(parts.ravel())
    order = np.argsort(-areas[1:], kind="stable") + 1
    number = np.zeros(len(areas), np.int32)
    number[order] = np.arange(1, len(order) + 1)
    return np.asarray(number[parts])


def _cannot(got: str) -> CorrectionError:
    return CorrectionError(
        expected="a line across the object, to split it",
        got=got,
        remedy="Draw the line over the object, from one side to the other.",
    )
