"""Folders of annotated images.

``DATA/images/NAME.png|tif``, ``DATA/labels/NAME.png|tif`` (integer, 0
background, 1..N objects) and optionally ``DATA/index.csv`` with the columns
``name``, ``split`` and ``modality``. Or annotations in COCO's json beside their
images, see `dinomask.train.coco_data`.
"""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dinomask.errors import DataError
from dinomask.image.source import open_image
from dinomask.train.coco_data import coco_files, read_coco
from dinomask.train.coco_masks import CocoLabels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.image.source import Image

Array = npt.NDArray[Any]

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".npy")
NO_SPLIT = "all"
"""Split of images in a folder without an index."""

LARGEST_ID = 2**24
"""Labels with larger ids are renumbered when read."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One annotated image on disk.

    Attributes
    ----------
    name : of the image, without suffix
    image : file
    labels : file, or the objects of a COCO json
    split : e.g. ``train``, ``val``; ``all`` without an index
    modality : e.g. ``fluo_small``; the folder's name without an index
    dataset : the folder's name
    """

    name: str
    image: Path
    labels: Path | CocoLabels
    split: str
    modality: str
    dataset: str

    def read(self) -> tuple[Array, Array, bool]:
        """Read image and labels.

        Returns
        -------
        image_cyx : shape (C, Y, X), native dtype
        labels_yx : shape (Y, X), int32; 0 background, -1 where nobody told objects
            apart (COCO's crowd regions only)
        is_rgb : whether the channels are colours

        Raises
        ------
        DataError
            If the two don't fit, or the labels aren't non-negative integers.
        InputError
            If a file can't be read.
        """
        image = open_image(self.image)
        if isinstance(self.labels, CocoLabels):
            labels = self.labels.draw(image.shape_yx)
        else:
            labels = _read_labels(self.labels, image.shape_yx)
        pixels = _read_whole(image)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise DataError(
                expected="an image of finite values",
                got=f"NaN or infinity in {self.image}",
                remedy="Replace these pixels, for example by the median, and save it again.",
            )
        return pixels, labels, image.is_rgb


def _read_labels(path: Path, shape_yx: tuple[int, int]) -> Array:
    labels_image = open_image(path)
    if labels_image.n_channels != 1 or shape_yx != labels_image.shape_yx:
        raise DataError(
            expected=f"labels of the image's size {shape_yx}, one channel",
            got=f"{labels_image.shape_yx}, {labels_image.n_channels} channels in {path}",
            remedy="Export the labels at the image's size, as integers in one channel.",
        )
    labels = _read_whole(labels_image)[0]
    if labels.dtype.kind not in "ui" or (labels.size and labels.min() < 0):
        raise DataError(
            expected="labels of non-negative integers",
            got=f"dtype {labels.dtype} in {path}",
            remedy="Save labels as 16-bit or 32-bit unsigned integers, 0 for background.",
        )
    return _fit_ids(labels)


def _fit_ids(labels_yx: Array) -> Array:
    """Return labels as int32; ids too large for a table of all ids are renumbered in order."""
    if labels_yx.size and labels_yx.max() > LARGEST_ID:
        ids, rows = np.unique(labels_yx, return_inverse=True)
        first = 0 if ids[0] == 0 else 1
        return (rows.reshape(labels_yx.shape) + first).astype(np.int32)
    return labels_yx.astype(np.int32)


def _read_whole(image: Image) -> Array:
    pixels: Array = image.read((0, 0, *image.shape_yx))
    return pixels


def find_samples(folders: Sequence[Path], split: str | None = None) -> list[Sample]:
    """List the annotated images of folders, sorted by name.

    Parameters
    ----------
    folders : each with ``images`` and ``labels``, or COCO's json (the file or its folder)
    split : only images of this split; None takes all

    Raises
    ------
    DataError
        If a folder is not laid out as above, or has no image of the split.
    """
    samples: list[Sample] = []
    for folder in folders:
        found = _find_in_folder(Path(folder), split)
        splits = sorted({s.split for s in found})
        kept = [s for s in found if split is None or s.split == split]
        if not kept and splits == [NO_SPLIT] and split is not None:
            remedy = "Add an index.csv with the columns name and split, or leave --split out."
        else:
            remedy = f"Choose one of its splits: {', '.join(splits)}."
        if not kept:
            raise DataError(
                expected=f"images of split {split!r} in {folder}", got="none", remedy=remedy
            )
        samples += kept
    return samples


def _find_in_folder(folder: Path, split: str | None) -> list[Sample]:
    if coco_files(folder):
        return _find_in_coco(folder, split)
    images = _by_stem(folder / "images")
    labels = _by_stem(folder / "labels")
    if not images or not labels:
        raise DataError(
            expected=f"{folder} with the folders 'images' and 'labels'",
            got=f"{len(images)} images and {len(labels)} label images",
            remedy="Put NAME.png or NAME.tif into images/ and the same NAME into labels/,"
            " or a COCO json beside its images.",
        )
    rows = _read_index(folder / "index.csv")
    names = [row["name"] for row in rows] if rows else sorted(images)
    table = {row["name"]: row for row in rows}
    if len(table) < len(rows):
        raise DataError(
            expected="each name once in index.csv",
            got=f"{len(rows)} rows with {len(table)} names",
            remedy="Remove the doubles, so that no image is in two splits.",
        )
    unpaired = [n for n in names if n not in images or n not in labels]
    if unpaired:
        raise DataError(
            expected="an image and a label image for every name",
            got=f"only one of the two, or none, for {unpaired[0]!r} ({len(unpaired)} in all)",
            remedy=f"Add the missing files to {folder}, or remove the names from index.csv.",
        )
    return [
        Sample(
            name,
            images[name],
            labels[name],
            table.get(name, {}).get("split") or NO_SPLIT,
            table.get(name, {}).get("modality") or folder.name,
            folder.name,
        )
        for name in sorted(names)
    ]


def _find_in_coco(data: Path, split: str | None) -> list[Sample]:
    dataset = data.stem if data.is_file() else data.name
    return [
        Sample(i.name, i.path, i.labels, i.split or NO_SPLIT, i.modality or dataset, dataset)
        for i in sorted(read_coco(data, split), key=lambda i: i.name)
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        # names with a dot in front are other programs' notes, such as macOS's ._NAME.png
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise DataError(
                expected=f"one file for {path.stem!r} in {folder}",
                got=f"{found[path.stem].name} and {path.name}",
                remedy="Keep one of them.",
            )
        found[path.stem] = path
    return found


def _read_index(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    try:
        # -sig: spreadsheets put a byte order mark in front
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            expected="an index.csv in UTF-8", got=f"{path}: {error}", remedy="Save it as UTF-8 CSV."
        ) from error
    if not rows or "name" not in rows[0]:
        raise DataError(
            expected="an index.csv with a column 'name'",
            got=f"columns {list(rows[0]) if rows else []}",
            remedy="Add the header line name,split,modality.",
        )
    return rows


def equivalent_diameters_px(labels_yx: Array) -> Array:
    """Return each object's diameter of the circle of equal area, in pixels, shape (N,)."""
    areas = np.bincount(labels_yx[labels_yx > 0])[1:]
    diameters: Array = np.sqrt(areas[areas > 0] * 4 / np.pi)
    return diameters


def median_diameter_px(labels_yx: Array) -> float | None:
    """Return the median diameter of the objects, or None if there is no object."""
    diameters = equivalent_diameters_px(labels_yx)
    return float(np.median(diameters)) if len(diameters) else None


def describe_sources(
    folders: Sequence[Path], split: str | None = None
) -> tuple[dict[str, str], ...]:
    """Name data sets, the number of images taken and their licences, for a manifest.

    The licence is the line that begins with ``Licence:`` in ``SOURCE.md`` of the
    folder, if there is one.
    """
    return tuple(
        {
            "name": Path(folder).resolve().name,
            "split": split or NO_SPLIT,
            "images": str(len(find_samples([folder], split))),
            "licence": _licence(Path(folder)),
        }
        for folder in folders
    )


def _licence(data: Path) -> str:
    path = (data.parent if data.is_file() else data) / "SOURCE.md"
    if not path.is_file():
        return "not stated"
    lines = path.read_text(encoding="utf-8").splitlines()
    stated = [line.partition(":")[2].strip() for line in lines if line.startswith("Licence:")]
    return stated[0] if stated else "not stated"
