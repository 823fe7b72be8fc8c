"""Reading one label image: what is accepted, what is repaired, what is refused.

Label images come from many programs, and some faults of theirs are common
enough to be repaired. Every repair is told, none is written back to the file.

- Ids as floating-point numbers count if they are whole numbers.
- An id whose pieces lie far apart stands for several objects: exporters reuse
  ids, tile by tile or when 8 bits are full. Each far piece becomes an object of
  its own. Pieces near each other stay one object, for real cells are cut in two
  by what lies above them.
- An id with many pieces of similar size is a mask of a whole kind of objects:
  each piece becomes an object.
- Pieces of a few pixels that lie apart are specks of a brush and become background.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import skimage.measure
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

from dinomask.errors import DataError
from dinomask.image.source import open_image

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.instances import Array

LARGEST_ID = 2**20
"""Labels with larger ids are renumbered when read."""

FAR_SIDES = 2.0
"""Pieces further apart than this many longest sides of the longer one are two objects.
In 26,600 hand-made objects of four public data sets no pieces of one object were."""

MASK_PIECES = 4
"""An id with so many pieces of similar size is a mask, not an object."""

SIMILAR_AREA = 0.25
"""Pieces of at least this share of the largest one's area are of similar size."""

MOST_PIECES = 1000
"""An id with more pieces is a mask, too."""

SPECK_PX = 20
SPECK_SHARE = 0.02
SPECK_SIDES = 0.5
"""A piece is a speck below this many pixels and this share of the largest piece's area, if
it is further from that one than this many of its longest sides, or belongs to a mask."""

_EXACT_FLOAT = 2.0**53
_SAVE_LABELS = "Save labels as 16-bit or 32-bit unsigned integers, 0 for background."


class DataWarning(UserWarning):
    """Annotations that were repaired or left out when read."""


@dataclasses.dataclass(frozen=True, eq=False)
class LabelImage:
    """Labels as they are used, and what became of the file's.

    Attributes
    ----------
    labels_yx : shape (Y, X), int32; 0 background
    file_ids : shape (max label + 1,), the file's id of each label; None where they are the same
    repairs : what was changed, a clause each
    """

    labels_yx: Array
    file_ids: Array | None = None
    repairs: tuple[str, ...] = ()


def read_labels(path: Path, shape_yx: tuple[int, int], image_path: Path) -> LabelImage:
    """Read and repair a label image.

    Parameters
    ----------
    path : file with one channel
    shape_yx : of the image
    image_path : of the image, for messages

    Raises
    ------
    DataError
        If size or channels don't fit, or the ids aren't whole numbers from 0 on.
    InputError
        If the file can't be read.
    """
    image = open_image(path)
    if image.n_channels != 1:
        raise DataError(
            expected="labels in one channel",
            got=f"{image.n_channels} channels in {path}",
            remedy="Export the ids of the objects as integers, not as colours.",
        )
    if image.shape_yx != shape_yx:
        raise DataError(
            expected=f"labels of the image's size: {image_path} has {_size(shape_yx)}",
            got=f"{_size(image.shape_yx)} in {path}",
            remedy="Export the labels at the image's size, or check that the two belong together.",
        )
    return repair_labels(_as_integers(image.read((0, 0, *shape_yx))[0], path))


def _size(shape_yx: tuple[int, int]) -> str:
    return f"{shape_yx[0]} x {shape_yx[1]} pixels"


def _as_integers(ids_yx: Array, path: Path) -> Array:
    if ids_yx.dtype.kind == "b":
        return ids_yx.astype(np.uint8)
    if ids_yx.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            wrong = (ids_yx != np.trunc(ids_yx)) | ~(np.abs(ids_yx) < _EXACT_FLOAT)
        if wrong.any():
            raise _wrong_id(ids_yx, wrong, path, expected="whole numbers as ids")
        ids_yx = ids_yx.astype(np.int64)
    if ids_yx.dtype.kind not in "ui":
        raise DataError(
            expected="labels of non-negative integers",
            got=f"dtype {ids_yx.dtype} in {path}",
            remedy=_SAVE_LABELS,
        )
    if ids_yx.dtype.kind == "i" and (ids_yx < 0).any():
        raise _wrong_id(ids_yx, ids_yx < 0, path, expected="labels of non-negative integers")
    return ids_yx


def _wrong_id(ids_yx: Array, wrong: Array, path: Path, *, expected: str) -> DataError:
    y, x = (int(v) for v in np.argwhere(wrong)[0])
    n = int(wrong.sum())
    got = f"the id {ids_yx[y, x]} at row {y}, column {x} of {path} ({n} such pixels)"
    return DataError(expected=expected, got=got, remedy=_SAVE_LABELS)


def repair_labels(ids_yx: Array) -> LabelImage:
    """Renumber ids too large for a table, and part ids that stand for several objects.

    Parameters
    ----------
    ids_yx : shape (Y, X), integer, not negative
    """
    labels, file_ids = _fit_ids(ids_yx)
    pieces = skimage.measure.label(labels, background=0, connectivity=2)  # type: ignore[no-untyped-call]
    n_pieces = int(pieces.max(initial=0))
    owner = np.zeros(n_pieces + 1, np.int64)
    owner[pieces.ravel()] = labels.ravel()
    owner[0] = 0
    counts = np.bincount(owner[1:])
    split = np.flatnonzero(counts > 1)
    if not len(split):
        return LabelImage(labels, file_ids)
    if file_ids is None:
        file_ids = np.arange(int(labels.max()) + 1)
    new_label, origin, repairs = _part(pieces, owner, split, file_ids)
    return LabelImage(new_label[pieces].astype(np.int32), origin, repairs)


def _fit_ids(ids_yx: Array) -> tuple[Array, Array | None]:
    if ids_yx.size and ids_yx.max() > LARGEST_ID:
        ids, rows = np.unique(ids_yx, return_inverse=True)
        if ids[0] != 0:
            ids, rows = np.concatenate([np.zeros(1, ids.dtype), ids]), rows + 1
        return rows.reshape(ids_yx.shape).astype(np.int32), ids
    return ids_yx.astype(np.int32), None


def _part(
    pieces_yx: Array, owner: Array, split: Array, file_ids: Array
) -> tuple[Array, Array, tuple[str, ...]]:
    """Give far pieces labels of their own, behind the present ones, and drop specks.

    Parameters
    ----------
    pieces_yx : shape (Y, X); 0 background, 1..N connected pieces
    owner : shape (N + 1,); label of each piece
    split : labels with several pieces, ascending
    file_ids : shape (max label + 1,)

    Returns
    -------
    the label of each piece (N + 1,), the file's id of each label, and the repairs
    """
    areas = np.bincount(pieces_yx.ravel())
    slices = ndimage.find_objects(pieces_yx)
    boxes = np.array([[y.start, x.start, y.stop, x.stop] for y, x in slices], np.float64)
    new_label = owner.copy()
    origin = list(file_ids)
    found: dict[str, list[object]] = {"mask": [], "far": [], "specks": []}
    by_owner = np.argsort(owner, kind="stable")
    starts, stops = np.searchsorted(owner[by_owner], [split, split + 1])
    for label, start, stop in zip(split, starts, stops, strict=True):
        own = by_owner[start:stop]
        kind, group = _group(areas[own], boxes[own - 1])
        new_label[own[group < 0]] = 0
        new_label[own[group > 0]] = len(origin) - 1 + group[group > 0]
        n_more = int(group.max())
        origin += [file_ids[label]] * n_more
        found[kind] += [file_ids[label]] * n_more
        found["specks"] += [file_ids[label]] * int((group < 0).sum())
    return new_label, np.array(origin), _describe(found)


def _group(areas: Array, boxes_yxyx: Array) -> tuple[str, Array]:
    """Say which pieces of one id are one object.

    Returns
    -------
    mask or far, and shape (N,): 0 with the largest piece, 1..K other objects, -1 specks
    """
    main = int(np.argmax(areas))
    sides = (boxes_yxyx[:, 2:] - boxes_yxyx[:, :2]).max(1)
    is_mask = (areas >= SIMILAR_AREA * areas[main]).sum() >= MASK_PIECES
    is_mask |= len(areas) > MOST_PIECES
    from_main = _gaps(boxes_yxyx[main], boxes_yxyx)
    specks = areas < min(SPECK_PX, SPECK_SHARE * areas[main])
    specks &= is_mask | (from_main > SPECK_SIDES * sides[main])
    rest = np.flatnonzero(~specks)
    if is_mask:
        group = np.arange(len(rest))
    else:
        gaps = _gaps(boxes_yxyx[rest][:, None], boxes_yxyx[rest])
        near = gaps <= FAR_SIDES * np.maximum(sides[rest][:, None], sides[rest])
        group = connected_components(near, directed=False)[1]
    # the group of the largest piece first, the others in their order
    _, group = np.unique(np.where(group == group[rest == main], -1, group), return_inverse=True)
    numbers = np.full(len(areas), -1, np.int64)
    numbers[rest] = group
    return "mask" if is_mask else "far", numbers


def _gaps(first_yxyx: Array, second_yxyx: Array) -> Array:
    """Return the distance between boxes, 0 where they touch or overlap."""
    low = np.maximum(first_yxyx[..., :2], second_yxyx[..., :2])
    high = np.minimum(first_yxyx[..., 2:], second_yxyx[..., 2:])
    return np.asarray(np.linalg.norm((low - high).clip(0), axis=-1))


def _describe(found: dict[str, list[object]]) -> tuple[str, ...]:
    texts = {
        "mask": "look like masks of many objects: each piece became an object, but objects that"
        " touch are still one",
        "far": "stand for objects far apart: each became an object",
        "specks": "had specks of a few pixels: these became background",
    }
    repairs = []
    for kind, text in texts.items():
        ids = list(dict.fromkeys(found[kind]))
        if ids:
            shown = ", ".join(str(i) for i in ids[:3]) + (", …" if len(ids) > 3 else "")
            n = len(found[kind])
            noun = "specks" if kind == "specks" else "objects more"
            repairs.append(f"{len(ids)} ids ({shown}) {text} ({n} {noun})")
    return tuple(repairs)
