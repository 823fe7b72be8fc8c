"""Draw the shapes of one window: every pixel goes to the surest instance.

What a window needs is gathered first, so that it can be drawn in another
process as well, which then needs nothing else.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dinomask.instances import Array
    from dinomask.tiles.plan import Box
    from dinomask.tiles.stitched import Stitched

_BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))
_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Scene:
    """All that one window shows; made by `of`.

    Attributes
    ----------
    window_yxyx_px : in image pixels
    members : shape (m,), int64; the instances that may show, ascending
    ids : shape (m,), uint32; what is written for each
    masks : shape (s, M, M), uint8; shapes in the order in which ties are decided
    boxes : shape (s, 4), what each mask is stretched over
    bounds : shape (s, 4), int64; the pixels of the window that each may cover
    local : shape (s,), int64; which of the members each shape belongs to
    """

    window_yxyx_px: Box
    members: Array
    ids: Array
    masks: Array
    boxes: Array
    bounds: Array
    local: Array

    @staticmethod
    def of(stitched: Stitched, window_yxyx_px: Box) -> Scene:
        """Gather what a window shows."""
        shapes = stitched.shapes
        which = shapes.touching(window_yxyx_px)
        masks, boxes, clips = shapes.masks_and_boxes(which)
        members, local = np.unique(shapes.owner[which], return_inverse=True)
        # in this order a tie belongs to the one drawn first
        order = np.lexsort((local, -stitched.instances.scores[members][local]))
        boxes = boxes[order].astype(np.float64)
        return Scene(
            window_yxyx_px,
            members,
            stitched.ids[members],
            masks[order],
            boxes,
            _bounds(boxes, clips[order], window_yxyx_px),
            local[order],
        )


def _bounds(boxes: Array, clips: Array, window_yxyx_px: Box) -> Array:
    """Pixels whose centre can lie in each box and does in each clip, within the window."""
    first = np.floor(boxes[:, :2])
    end = np.maximum(np.ceil(boxes[:, 2:]), first + 1)
    first = np.maximum(np.maximum(first, np.ceil(clips[:, :2] - 0.5)), window_yxyx_px[:2])
    end = np.minimum(np.minimum(end, np.ceil(clips[:, 2:] - 0.5)), window_yxyx_px[2:])
    return np.concatenate([first, np.maximum(end, first)], axis=1).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A window's labels, and what each of its instances owns there.

    Attributes
    ----------
    labels_yx : shape (h, w); ids, 0 is background
    members : shape (m,), int64; instances that may show
    areas_px : shape (m,), int64; pixels that each owns
    sums_yx : shape (m, 2), int64; sums of those pixels' coordinates
    boxes_yxyx_px : shape (m, 4), int64; smallest boxes around them, half-open;
        where there is none, the start lies after the end
    """

    labels_yx: Array
    members: Array
    areas_px: Array
    sums_yx: Array
    boxes_yxyx_px: Array


def draw(scene: Scene, dtype: np.dtype[np.unsignedinteger]) -> Drawn:
    """Draw a window.

    A pixel belongs to the instance with the highest probability there among
    those of at least 0.5; ties go to the higher score, then to the first.
    """
    top, left, bottom, right = scene.window_yxyx_px
    best_yx = np.full((bottom - top, right - left), _BELOW_HALF, np.float32)
    drawn_yx = np.zeros(best_yx.shape, np.int32)
    numbers = (scene.local + 1).tolist()
    places = (scene.bounds - [top, left, top, left]).tolist()
    for s, probability in _interpolated(scene):
        y0, x0, y1, x1 = places[s]
        best = best_yx[y0:y1, x0:x1]
        wins = probability > best
        np.copyto(best, probability, where=wins)
        np.copyto(drawn_yx[y0:y1, x0:x1], numbers[s], where=wins)
    areas, sums, boxes = _measure(scene, drawn_yx, places)
    lookup = np.concatenate([np.zeros(1, dtype), scene.ids.astype(dtype)])
    return Drawn(lookup[drawn_yx], scene.members, areas, sums, boxes)


def _interpolated(scene: Scene) -> Iterator[tuple[int, Array]]:
    """Yield every shape's probabilities over its bounds, float32, in order.

    The operations on a pixel are those of `instances.paste_probability`, and
    independent of the window, so that two chunks never disagree.
    """
    sizes = scene.bounds[:, 2:] - scene.bounds[:, :2]
    visible = np.flatnonzero(np.all(sizes > 0, axis=1))
    ready: dict[int, Array] = {}
    # drawing needs the order of ties, interpolation goes faster on equal sizes: blocks do both
    for first in range(0, len(visible), 8 * _AT_ONCE):
        block = visible[first : first + 8 * _AT_ONCE]
        by_size = block[np.lexsort((sizes[block, 1], sizes[block, 0]))]
        for part in _batches(by_size, sizes):
            values = _interpolate(scene, part, sizes[part])
            for i, s in enumerate(part.tolist()):
                ready[s] = values[i, : sizes[s, 0], : sizes[s, 1]]
        for s in block.tolist():
            yield s, ready.pop(s)


def _batches(by_size: Array, sizes: Array) -> Iterator[Array]:
    """Cut ascending sizes into batches that are not much larger padded than they are."""
    first = widest = total = 0
    for i, (height, width) in enumerate(sizes[by_size].tolist()):
        wider, more = max(widest, width), total + height * width
        padded = height * wider * (i - first + 1)
        if i > first and (i - first >= _AT_ONCE or padded > 1.3 * more + 4096):
            yield by_size[first:i]
            first, wider, more = i, width, height * width
        widest, total = wider, more
    if len(by_size):
        yield by_size[first:]


def _interpolate(scene: Scene, part: Array, sizes: Array) -> Array:
    """Interpolate some masks; shape (n, greatest height, greatest width), padded at the end."""
    n_y, n_x = sizes.max(axis=0).tolist()
    pairs = np.arange(len(part))[:, None]
    cells = scene.masks[part].astype(np.float32) / np.float32(255)
    # along x first on columns turned into rows, so that whole rows are copied
    lower, upper, weight, inside = _taps(scene, part, 0, n_y)
    rows = cells[pairs, lower]
    rows += (cells[pairs, upper] - rows) * weight[:, :, None]
    rows *= inside[:, :, None]
    turned = np.ascontiguousarray(rows.transpose(0, 2, 1))
    lower, upper, weight, inside = _taps(scene, part, 1, n_x)
    values = turned[pairs, lower]
    values += (turned[pairs, upper] - values) * weight[:, :, None]
    values *= inside[:, :, None]
    return np.asarray(values.transpose(0, 2, 1))


def _taps(scene: Scene, part: Array, axis: int, n: int) -> tuple[Array, Array, Array, Array]:
    """As `instances._linear_taps`, for many masks."""
    m = scene.masks.shape[1 + axis]
    start, end = scene.boxes[part, axis, None], scene.boxes[part, axis + 2, None]
    centres = scene.bounds[part, axis, None] + np.arange(n) + 0.5
    position = (centres - start) * (m / np.maximum(end - start, 1e-6)) - 0.5
    position = np.minimum(np.maximum(position, 0.0), m - 1.0)
    lower = position.astype(np.intp)
    upper = np.minimum(lower + 1, m - 1)
    inside = (centres >= start) & (centres < end)
    return lower, upper, (position - lower).astype(np.float32), inside.astype(np.float32)


def _measure(scene: Scene, drawn_yx: Array, places: list[list[int]]) -> tuple[Array, ...]:
    """Areas, sums of coordinates and boxes of what each member owns in the window."""
    n = len(scene.members)
    top, left, bottom, right = scene.window_yxyx_px
    none = np.iinfo(np.int64)
    areas, sums = np.zeros(n, np.int64), np.zeros((n, 2), np.int64)
    boxes = np.tile(np.array([none.max, none.max, none.min, none.min], np.int64), (n, 1))
    ones = np.ones(max(bottom - top, right - left), np.float32)
    for member, (y0, x0, y1, x1) in _regions(scene, places):
        # as products with ones: faster than sums, and exact, as sides are far below 2**24
        mine = (drawn_yx[y0:y1, x0:x1] == member + 1).astype(np.float32)
        per_row = (mine @ ones[: x1 - x0]).astype(np.int64)
        per_column = (ones[: y1 - y0] @ mine).astype(np.int64)
        area = int(per_row.sum())
        if not area:
            continue
        areas[member] = area
        sums[member] = (
            per_row @ np.arange(top + y0, top + y1),
            per_column @ np.arange(left + x0, left + x1),
        )
        rows, columns = per_row.nonzero()[0], per_column.nonzero()[0]
        boxes[member] = (
            top + y0 + rows[0],
            left + x0 + columns[0],
            top + y0 + rows[-1] + 1,
            left + x0 + columns[-1] + 1,
        )
    return areas, sums, boxes


def _regions(scene: Scene, places: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
    """Yield each member with the part of the window that its shapes can cover."""
    found: dict[int, list[int]] = {}
    for member, place in zip(scene.local.tolist(), places, strict=True):
        y0, x0, y1, x1 = place
        if y1 <= y0 or x1 <= x0:
            continue
        a = found.get(member)
        found[member] = (
            place if a is None else [min(a[0], y0), min(a[1], x0), max(a[2], y1), max(a[3], x1)]
        )
    return iter(found.items())
