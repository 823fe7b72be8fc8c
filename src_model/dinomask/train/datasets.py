"""Annotated images from one or several data sets, with their classes and splits.

A data set is a folder (see `dinomask.train.folders`), or annotations in COCO's
json beside their images (see `dinomask.train.coco_data`).

Where a data set names no splits, ``train`` and ``val`` are about 80 and 20 % of
its images, always the same ones; images of one group (column ``group`` of
``index.csv``) stay together. See `dinomask.train.splits`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dinomask.errors import DataError
from dinomask.train.classes import check_list, image_class_index
from dinomask.train.coco_data import coco_files, read_coco
from dinomask.train.folders import find_in_folder
from dinomask.train.samples import NO_SPLIT, Sample
from dinomask.train.splits import SPLIT_FRACTIONS, split_by_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.instances import Array

__all__ = [
    "NO_SPLIT",
    "AnnotatedData",
    "Sample",
    "describe_sources",
    "equivalent_diameters_px",
    "find_data",
    "find_samples",
    "median_diameter_px",
]


@dataclasses.dataclass(frozen=True)
class AnnotatedData:
    """The annotated images of one or several data sets.

    Attributes
    ----------
    samples : the images taken, each data set's sorted by name
    classes : of objects, in all splits of all sets: the given list, or the names in
        alphabetical order
    image_classes : of whole images, likewise
    unclassed : the data sets with objects of no class
    sources : name, split, number of images and licence of each data set, for a manifest
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    image_classes: tuple[str, ...]
    unclassed: tuple[str, ...]
    sources: tuple[dict[str, str], ...]


def find_data(
    folders: Sequence[Path],
    split: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    image_classes: Sequence[str] | None = None,
) -> AnnotatedData:
    """List the annotated images of data sets, and what is known of them all.

    Parameters
    ----------
    folders : each with ``images`` and ``labels``, or COCO's json (the file or its folder)
    split : only images of this split; None takes all
    classes, image_classes : the only classes allowed, in the order of their numbers; None
        takes those that the data sets name

    Raises
    ------
    DataError
        If a folder is not laid out as above, has no image of the split, or names a
        class outside the list.
    """
    check_list(classes)
    check_list(image_classes)
    samples: list[Sample] = []
    sources: list[dict[str, str]] = []
    names: set[str] = set()
    image_names: set[str] = set()
    unclassed: dict[str, None] = {}
    for folder in map(Path, folders):
        found, listed = _find(folder, split)
        names.update(listed)
        image_names.update(s.image_class for s in found if s.image_class is not None)
        _check_classes(found, classes, image_classes)
        unclassed |= {s.dataset: None for s in found if not s.is_classed()}
        kept = _choose(found, split, folder)
        samples += kept
        sources.append(_describe(folder, split, kept))
    return AnnotatedData(
        tuple(samples),
        tuple(sorted(names) if classes is None else classes),
        tuple(sorted(image_names) if image_classes is None else image_classes),
        tuple(unclassed),
        tuple(sources),
    )


def find_samples(folders: Sequence[Path], split: str | None = None) -> list[Sample]:
    """List the annotated images of data sets, as `find_data` does."""
    return list(find_data(folders, split).samples)


def draw_evenly(samples: Sequence[Sample], n: int, seed: int) -> list[Sample]:
    """Choose n samples at random, from each modality of each data set in turn."""
    rng = np.random.default_rng(seed)
    queues: dict[tuple[str, str], list[Sample]] = {}
    for i in rng.permutation(len(samples)):
        queues.setdefault((samples[i].dataset, samples[i].modality), []).append(samples[i])
    chosen: list[Sample] = []
    while len(chosen) < n and any(queues.values()):
        for key in sorted(queues):
            if queues[key] and len(chosen) < n:
                chosen.append(queues[key].pop())
    return chosen


def describe_sources(
    folders: Sequence[Path], split: str | None = None
) -> tuple[dict[str, str], ...]:
    """Name data sets, the number of images taken and their licences, for a manifest.

    The licence is the line that begins with ``Licence:`` in ``SOURCE.md`` of the
    folder, if there is one. Where the images are needed too, `find_data` gives
    both and reads the annotations once.
    """
    return find_data(folders, split).sources


def _find(data: Path, split: str | None) -> tuple[list[Sample], list[str]]:
    """Return the images of at least that split, and the names of all object classes."""
    if not coco_files(data):
        found = find_in_folder(data)
        tables = [s.class_table for s in found if s.class_table is not None]
        return found, [name for table in tables for name in table.known()]
    dataset = data.stem if data.is_file() else data.name
    images = sorted(read_coco(data, split), key=lambda image: image.name)
    samples = [
        Sample(i.name, i.path, i.labels, i.split or NO_SPLIT, i.modality or dataset, dataset)
        for i in images
    ]
    return samples, [name for image in images for name in image.categories]


def _check_classes(
    found: Sequence[Sample],
    classes: Sequence[str] | None,
    image_classes: Sequence[str] | None,
) -> None:
    for sample in found:
        table = sample.object_classes() if classes is not None else None
        if table is not None and classes is not None:
            table.require(classes)
        if image_classes is not None:
            image_class_index(sample.image_class, image_classes, str(sample.image))


def _choose(found: Sequence[Sample], split: str | None, folder: Path) -> list[Sample]:
    """Take the images of a split, which is drawn if the data set names none."""
    drawn = {s.split for s in found} == {NO_SPLIT} and split in SPLIT_FRACTIONS
    if drawn:
        found = split_by_group(found)
    kept = [s for s in found if split is None or s.split == split]
    if kept:
        return kept
    splits = sorted({s.split for s in found})
    if drawn:
        remedy = "All its images are of one group: leave --split out, or annotate more."
    elif splits == [NO_SPLIT]:
        remedy = "Add an index.csv with the columns name and split, or leave --split out."
    else:
        remedy = f"Choose one of its splits: {', '.join(splits)}."
    raise DataError(expected=f"images of split {split!r} in {folder}", got="none", remedy=remedy)


def _describe(data: Path, split: str | None, kept: Sequence[Sample]) -> dict[str, str]:
    return {
        "name": data.resolve().name,
        "split": split or NO_SPLIT,
        "images": str(len(kept)),
        "licence": _licence(data),
    }


def _licence(data: Path) -> str:
    path = (data.parent if data.is_file() else data) / "SOURCE.md"
    if not path.is_file():
        return "not stated"
    lines = path.read_text(encoding="utf-8").splitlines()
    stated = [line.partition(":")[2].strip() for line in lines if line.startswith("Licence:")]
    return stated[0] if stated else "not stated"


def equivalent_diameters_px(labels_yx: Array) -> Array:
    """Return each object's diameter of the circle of equal area, in pixels, shape (N,)."""
    areas = np.bincount(labels_yx[labels_yx > 0])[1:]
    diameters: Array = np.sqrt(areas[areas > 0] * 4 / np.pi)
    return diameters


def median_diameter_px(labels_yx: Array) -> float | None:
    """Return the median diameter of the objects, or None if there is no object."""
    diameters = equivalent_diameters_px(labels_yx)
    return float(np.median(diameters)) if len(diameters) else None
