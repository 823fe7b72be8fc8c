"""From a journal of corrections to what training takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt.taught import TaughtImage
from dinomask.config import NormaliseConfig
from dinomask.image.normalise import read_samples
from dinomask.instances import REFUTED, UNSUPERVISED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dinomask.adapt.events import Piece
    from dinomask.adapt.journal import Journal
    from dinomask.adapt.label_store import LabelStore
    from dinomask.adapt.reviewed import Reviewed
    from dinomask.image.source import Image
    from dinomask.instances import Array

    Box = tuple[int, int, int, int]
    Place = tuple[int, ...]

WHOLE_PX = 2048**2
"""Images with up to so many pixels are taken whole, of larger ones windows."""

CONTEXT_PX = 224
"""Of the image, around what is known: half a crop of objects as large as 64 px."""

LARGEST_PX = 4096
"""Side of the largest window; what is known beyond goes into another one."""


def taught_from_journal(
    image: Image | Callable[[Place], Image],
    store: LabelStore,
    journal: Journal,
    name: str = "image",
    context_px: int = CONTEXT_PX,
) -> list[TaughtImage]:
    """Collect what a user's corrections say, in windows around it.

    Known are objects that were corrected or accepted, and all in reviewed regions (by
    their centre); known to be none are the other pixels of reviewed regions and, with
    more weight, those of objects that were removed.

    Parameters
    ----------
    image : corrected image; of a movie or stack, what gives the image of a plane, an index
        on the axes before y and x
    store : labels as they are now
    journal : of these labels
    name : of the image
    context_px : pixels of image around what is known

    Returns
    -------
    in the order of planes; empty where nothing is known
    """
    touched = journal.touched()
    planes = {c.plane for c in touched.values()} | {r.plane for r in journal.reviewed()}
    planes |= {c.plane for c in journal.corrections()}
    found: list[TaughtImage] = []
    for plane in sorted(planes):
        changes = [c for c in touched.values() if c.plane == plane]
        present = [p for c in changes for p in c.after]
        gone = [
            p
            for c in journal.corrections()
            if c.plane == plane and c.kind == "remove"
            for p in c.before
        ]
        reviewed = [r for r in journal.reviewed() if r.plane == plane]
        shown = image(plane) if callable(image) else image
        found += _of_plane(shown, store, plane, present, gone, reviewed, name, context_px)
    return found


def _of_plane(
    image: Image,
    store: LabelStore,
    plane: Place,
    present: Sequence[Piece],
    gone: Sequence[Piece],
    reviewed: Sequence[Reviewed],
    name: str,
    context_px: int,
) -> list[TaughtImage]:
    height, width = image.shape_yx
    boxes = [p.box_yxyx_px for p in (*present, *gone)] + [_bounds(r) for r in reviewed]
    if not boxes:
        return []
    windows = [(0, 0, height, width)]
    whole = height * width <= WHOLE_PX
    if not whole:
        wide = [_clip(_grown(box, context_px), (height, width)) for box in boxes]
        windows = [part for box in join_boxes(wide) for part in _parts(box)]
    samples = None if whole else read_samples(image, NormaliseConfig().max_samples)[0]
    title = name if not plane else f"{name} {', '.join(map(str, plane))}"
    found = []
    for window in windows:
        labels, classes = known_labels(store, plane, window, present, gone, reviewed)
        if (labels != UNSUPERVISED).any():
            found.append(
                TaughtImage(title, image.read(window), image.is_rgb, labels, classes, None, samples)
            )
    return found


def known_labels(
    store: LabelStore,
    plane: Place,
    window: Box,
    present: Sequence[Piece],
    gone: Sequence[Piece],
    reviewed: Sequence[Reviewed],
) -> tuple[Array, Array]:
    """Return what is known of a window, and the class of each label.

    Parameters
    ----------
    store, plane : labels as they are now
    window : half-open, in image pixels
    present : corrected and accepted objects
    gone : removed ones
    reviewed : regions

    Returns
    -------
    labels_yx : shape (h, w), int32; see `TaughtImage`; ids 1..N of their own
    classes : shape (N + 1,), int64
    """
    shown = np.asarray(store.read(window, plane)).astype(np.int64)
    sure = np.zeros(shown.shape, bool)
    for region in reviewed:
        sure |= region.mask(window)
    ids, rows, areas = np.unique(shown, return_inverse=True, return_counts=True)
    rows = rows.reshape(shown.shape)
    inside = 2 * np.bincount(rows[sure], minlength=len(ids)) > areas
    known = (np.isin(ids, [p.label for p in present]) | inside) & (ids > 0)
    numbers = np.full(len(ids), UNSUPERVISED, np.int32)
    numbers[known] = np.arange(1, int(known.sum()) + 1)
    ground = np.where(sure, 0, UNSUPERVISED)
    labels: Array = np.where(shown > 0, numbers[rows], ground).astype(np.int32)
    for piece in gone:
        _refute(labels, shown, window, piece)
    classes = [0, *(store.class_of(int(i)) for i in ids[known])]
    return labels, np.array(classes, np.int64)


def _refute(labels: Array, shown: Array, window: Box, piece: Piece) -> None:
    """Mark where a removed object was, unless another is there now."""
    y, x = piece.corner_yx_px
    height, width = piece.mask_yx.shape
    top, left = max(y, window[0]), max(x, window[1])
    bottom, right = min(y + height, window[2]), min(x + width, window[3])
    if top >= bottom or left >= right:
        return
    here = np.s_[top - window[0] : bottom - window[0], left - window[1] : right - window[1]]
    mask = piece.mask_yx[top - y : bottom - y, left - x : right - x]
    labels[here][mask & (shown[here] == 0)] = REFUTED


def join_boxes(boxes: Sequence[Box]) -> list[Box]:
    """Join boxes that overlap, and go on until none do."""
    joined: list[Box] = []
    for box in boxes:
        rest = []
        for other in joined:
            if _overlap(box, other):
                box = (
                    min(box[0], other[0]),
                    min(box[1], other[1]),
                    max(box[2], other[2]),
                    max(box[3], other[3]),
                )
            else:
                rest.append(other)
        again = any(_overlap(box, other) for other in rest)
        joined = join_boxes([*rest, box]) if again else [*rest, box]
    return joined


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _parts(box: Box) -> list[Box]:
    rows = range(box[0], box[2], LARGEST_PX)
    cols = range(box[1], box[3], LARGEST_PX)
    return [
        (y, x, min(y + LARGEST_PX, box[2]), min(x + LARGEST_PX, box[3])) for y in rows for x in cols
    ]


def _bounds(region: Reviewed) -> Box:
    low = np.floor(region.polygon_yx_px.min(axis=0)).astype(int)
    high = np.ceil(region.polygon_yx_px.max(axis=0)).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _grown(box: Box, by_px: int) -> Box:
    return box[0] - by_px, box[1] - by_px, box[2] + by_px, box[3] + by_px


def _clip(box: Box, shape_yx: tuple[int, int]) -> Box:
    y0, x0 = (min(max(v, 0), n) for v, n in zip(box[:2], shape_yx, strict=True))
    y1, x1 = (min(max(v, 0), n) for v, n in zip(box[2:], shape_yx, strict=True))
    return y0, x0, y1, x1
