"""Objects as COCO writes them, polygons and run lengths, and the label image they make.

COCO's coordinates are continuous: a pixel (y, x) is the square from (x, y) to
(x + 1, y + 1). Its run lengths go down the columns and begin with background;
the compressed form writes each as a signed number in 6-bit characters, from the
fourth on as a difference to the run before last (cocodataset.org, maskApi).
Decoded here in a few lines of numpy, as all other pixels, rather than by a
compiled package that every installation would need.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import skimage.draw

from dinomask.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dinomask.instances import Array

UNSUPERVISED = -1
"""Label of pixels that nobody annotated object by object."""


@dataclasses.dataclass(frozen=True, eq=False)
class Polygons:
    """An object of one or more filled outlines.

    Attributes
    ----------
    parts_xy_px : each of shape (N, 2), float32; N >= 3 corners, x first
    """

    parts_xy_px: tuple[Array, ...]

    def pixels(self, shape_yx: tuple[int, int]) -> Array:
        """Return the flat indices of the pixels whose centre lies inside, ascending."""
        inside = []
        for part in self.parts_xy_px:
            y, x = skimage.draw.polygon(  # type: ignore[no-untyped-call]
                part[:, 1] - 0.5, part[:, 0] - 0.5, shape_yx
            )
            inside.append(y * shape_yx[1] + x)
        return np.unique(np.concatenate(inside))


@dataclasses.dataclass(frozen=True, eq=False)
class RunLengths:
    """An object as runs of pixels, down the columns.

    Attributes
    ----------
    shape_yx : of the image they were made for
    counts : shape (N,), int64, not compressed; or the compressed text
    """

    shape_yx: tuple[int, int]
    counts: Array | bytes

    def pixels(self, shape_yx: tuple[int, int]) -> Array:
        """Return the flat indices of its pixels, in the order of the columns.

        Raises
        ------
        DataError
            If it was made for another size or the runs don't fill the image.
        """
        if self.shape_yx != shape_yx:
            raise DataError(
                expected=f"run lengths of the image's size {shape_yx}",
                got=f"the size {self.shape_yx}",
                remedy="Check that the annotations belong to this version of the image.",
            )
        runs = decode_runs(self.counts) if isinstance(self.counts, bytes) else self.counts
        total = shape_yx[0] * shape_yx[1]
        if (runs < 0).any() or (runs > total).any() or int(runs.sum()) != total:
            raise DataError(
                expected=f"run lengths that add up to {total} pixels",
                got=f"{len(runs)} runs from {runs.min(initial=0)} to {runs.max(initial=0)},"
                f" in all {int(runs.sum())}",
                remedy="Export the annotations again; these are damaged.",
            )
        # only the pixels inside are listed: most objects are far smaller than the image
        lengths = runs[1::2]
        begins = np.cumsum(runs)[0::2][: len(lengths)]
        skipped = begins - (np.cumsum(lengths) - lengths)
        x, y = np.divmod(np.repeat(skipped, lengths) + np.arange(lengths.sum()), shape_yx[0])
        return np.asarray(y * shape_yx[1] + x)


@dataclasses.dataclass(frozen=True, eq=False)
class CocoObject:
    """One annotation.

    Attributes
    ----------
    id : of the annotation, for messages
    shape : its pixels
    is_crowd : whether it marks a region of objects that nobody told apart
    category : name of its class; None where the annotation has none
    """

    id: object
    shape: Polygons | RunLengths
    is_crowd: bool
    category: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class CocoLabels:
    """The objects of one image.

    Attributes
    ----------
    file : the json they stand in, for messages
    size_yx : the image's size as the json says; None where it doesn't
    objects : in the order of the file
    """

    file: str
    size_yx: tuple[int, int] | None
    objects: tuple[CocoObject, ...]

    def draw(self, shape_yx: tuple[int, int]) -> Array:
        """Draw the label image.

        Where objects overlap, the smaller lies on top. Crowd regions become
        -1 wherever no object lies.

        Returns
        -------
        shape (Y, X), int32; k + 1 for the k-th object, 0 background, -1 crowd

        Raises
        ------
        DataError
            If the annotations are for an image of another size.
        """
        if self.size_yx not in (None, shape_yx):
            raise DataError(
                expected=f"an image of the size in {self.file}, {self.size_yx}",
                got=str(shape_yx),
                remedy="Check that the annotations belong to this version of the image.",
            )
        drawn = [self._pixels(item, shape_yx) for item in self.objects]
        # a stable order: of two of one size the later lies on top
        order = sorted(
            range(len(drawn)), key=lambda k: (not self.objects[k].is_crowd, -len(drawn[k]))
        )
        labels = np.zeros(shape_yx[0] * shape_yx[1], np.int32)
        for k in order:
            labels[drawn[k]] = UNSUPERVISED if self.objects[k].is_crowd else k + 1
        return labels.reshape(shape_yx)

    def _pixels(self, item: CocoObject, shape_yx: tuple[int, int]) -> Array:
        try:
            return item.shape.pixels(shape_yx)
        except DataError as error:
            raise DataError(
                expected=error.expected,
                got=f"{error.got} in the annotation {item.id} of {self.file}",
                remedy=error.remedy,
            ) from error


def parse_object(annotation: dict[str, Any], categories: Mapping[object, str]) -> CocoObject:
    """Read one annotation into compact arrays.

    Parameters
    ----------
    annotation : COCO's record
    categories : names of the classes by their ids

    Raises
    ------
    DataError
        If its ``segmentation`` is neither polygons of at least three corners
        nor run lengths.
    """
    segmentation = annotation.get("segmentation")
    number = annotation.get("id", "without id")
    shape: Polygons | RunLengths
    if isinstance(segmentation, dict):
        shape = _parse_runs(segmentation, number)
    elif isinstance(segmentation, list) and segmentation:
        shape = Polygons(tuple(_parse_polygon(part, number) for part in segmentation))
    else:
        raise DataError(
            expected=f"an outline or run lengths for the annotation {number}",
            got=f"the segmentation {str(segmentation)[:40]!r}",
            remedy="Export the annotations with masks or polygons; boxes alone are not enough.",
        )
    category = categories.get(annotation.get("category_id"))
    return CocoObject(number, shape, bool(annotation.get("iscrowd", 0)), category)


def _parse_polygon(part: object, number: object) -> Array:
    try:
        corners = np.array(part, np.float32).ravel()
    except (TypeError, ValueError):
        corners = np.zeros(0, np.float32)
    if len(corners) < 6 or len(corners) % 2 or not np.isfinite(corners).all():
        raise DataError(
            expected="polygons of at least three corners, as [x0, y0, x1, y1, x2, y2, …]",
            got=f"{str(part)[:60]} in the annotation {number}",
            remedy="Remove this outline, or draw it again.",
        )
    return corners.reshape(-1, 2)


def _parse_runs(segmentation: dict[str, Any], number: object) -> RunLengths:
    try:
        height, width = (int(n) for n in segmentation["size"])
        counts = segmentation["counts"]
        runs = counts.encode("ascii") if isinstance(counts, str) else np.array(counts, np.int64)
        if isinstance(runs, bytes) or runs.ndim == 1:
            return RunLengths((height, width), runs)
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise DataError(
        expected="run lengths with 'size': [height, width] and 'counts', a list or a text",
        got=f"{str(segmentation)[:60]} in the annotation {number}",
        remedy="Export the annotations again, as COCO run lengths or polygons.",
    )


def decode_runs(text: bytes) -> Array:
    """Decode compressed run lengths.

    Each character is 48 plus six bits: five of the number, lowest first, and
    one that says whether it goes on; bit 5 of its last character is the sign.

    Returns
    -------
    shape (N,), int64; to be checked by the caller

    Raises
    ------
    DataError
        If it holds other characters or ends within a number.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((codes & 0x20) == 0)
    first = np.concatenate([np.zeros(min(1, len(last)), np.int64), last[:-1] + 1])
    digits = last - first + 1
    damaged = (codes < 0).any() or (codes > 63).any() or (digits > 12).any()
    if damaged or (len(codes) and (not len(last) or last[-1] != len(codes) - 1)):
        raise DataError(
            expected="compressed run lengths",
            got=f"the text {text[:40]!r}",
            remedy="Export the annotations again; these are damaged.",
        )
    if not len(last):
        return np.zeros(0, np.int64)
    place = np.arange(len(codes)) - np.repeat(first, digits)
    runs = np.add.reduceat((codes & 0x1F) << (5 * place), first)
    runs -= ((codes[last] & 0x10) > 0) * (1 << (5 * digits))
    for start in (1, 2):
        runs[start::2] = np.cumsum(runs[start::2])
    return runs
