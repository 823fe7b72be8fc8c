"""Data sets that are folders of images and of label images.

``DATA/images/NAME.png|tif``, ``DATA/labels/NAME.png|tif`` (integer, 0 background,
1..N objects), optionally ``DATA/classes/NAME.csv`` (see `dinomask.train.classes`)
and ``DATA/index.csv`` with the column ``name`` and any of ``split``,
``modality``, ``group`` and ``image_class``.

With an index the images are those it names. Without one they are all that have
labels; images without are left out, with a warning.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from dinomask.errors import DataError
from dinomask.train.classes import read_class_table, read_table
from dinomask.train.labels import DataWarning
from dinomask.train.samples import NO_SPLIT, Sample

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".npy")


def find_in_folder(folder: Path) -> list[Sample]:
    """List the annotated images of a folder, of all splits, sorted by name.

    Raises
    ------
    DataError
        If the folder is not laid out as above.
    """
    images = _by_stem(folder / "images")
    labels = _by_stem(folder / "labels")
    if not images or not labels:
        raise DataError(
            expected=f"{folder} with the folders 'images' and 'labels'",
            got=f"{len(images)} images and {len(labels)} label images",
            remedy="Put NAME.png or NAME.tif into images/ and the same NAME into labels/,"
            " or a COCO json beside its images.",
        )
    table = _read_index(folder / "index.csv")
    names = _named(folder, images, labels, table) if table else _paired(folder, images, labels)
    return [
        _sample(folder, name, images[name], labels[name], table.get(name, {})) for name in names
    ]


def _sample(folder: Path, name: str, image: Path, labels: Path, row: dict[str, str]) -> Sample:
    classes = folder / "classes" / f"{name}.csv"
    return Sample(
        name,
        image,
        labels,
        row.get("split") or NO_SPLIT,
        row.get("modality") or folder.name,
        folder.name,
        row.get("group") or None,
        row.get("image_class") or None,
        read_class_table(classes) if classes.is_file() else None,
    )


def _named(
    folder: Path, images: Collection[str], labels: Collection[str], names: Collection[str]
) -> list[str]:
    unpaired = [n for n in names if n not in images or n not in labels]
    if unpaired:
        raise DataError(
            expected="an image and a label image for every name",
            got=f"only one of the two, or none, for {unpaired[0]!r} ({len(unpaired)} in all)",
            remedy=f"Add the missing files to {folder}, or remove the names from index.csv.",
        )
    return sorted(names)


def _paired(folder: Path, images: Collection[str], labels: Collection[str]) -> list[str]:
    paired = sorted(set(images) & set(labels))
    stray = sorted(set(labels) - set(images))
    left_out = sorted(set(images) - set(labels))
    if stray:
        raise DataError(
            expected=f"an image of the same name for every label image in {folder}",
            got=f"none for {stray[0]!r} ({len(stray)} in all)"
            + (f", and no labels for the image {left_out[0]!r}" if left_out else ""),
            remedy="Give labels/ and images/ the same names, apart from the suffix.",
        )
    if left_out:
        warnings.warn(
            f"{len(left_out)} of {len(images)} images in {folder} have no labels and are left"
            f" out: {', '.join(left_out[:3])}{', …' if len(left_out) > 3 else ''}."
            " For an image without objects save a label image of zeros.",
            DataWarning,
            stacklevel=2,
        )
    return paired


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


def _read_index(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of an index by name; empty without the file."""
    if not path.is_file():
        return {}
    rows = read_table(path, ("name",))
    if not rows:
        raise DataError(
            expected="names under the column 'name' of index.csv",
            got=f"no rows in {path}",
            remedy="List the images, or delete the file.",
        )
    stripped = [{k: (v or "").strip() for k, v in row.items() if k} for row in rows]
    table = {row["name"]: row for row in stripped}
    if len(table) < len(rows):
        raise DataError(
            expected="each name once in index.csv",
            got=f"{len(rows)} rows with {len(table)} names",
            remedy="Remove the doubles, so that no image is in two splits.",
        )
    return table
