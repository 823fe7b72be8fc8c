"""One annotated image: where it lies, and reading it."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

import numpy as np

from dinomask.errors import DataError
from dinomask.image.source import open_image
from dinomask.train.classes import ObjectClasses
from dinomask.train.coco_masks import CocoLabels
from dinomask.train.labels import DataWarning, LabelImage, read_labels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dinomask.instances import Array

NO_SPLIT = "all"
"""Split of images in a data set that names none."""


@dataclasses.dataclass(frozen=True, eq=False)
class Annotation:
    """What was read of a sample.

    Attributes
    ----------
    image_cyx : shape (C, Y, X), native dtype
    labels_yx : shape (Y, X), int32; 0 background, -1 where nobody told objects
        apart (COCO's crowd regions only)
    is_rgb : whether the channels are colours
    classes : shape (max label + 1,), int64; class of each label, 0 for the others
    repairs : what was changed in the labels, a clause each
    """

    image_cyx: Array
    labels_yx: Array
    is_rgb: bool
    classes: Array
    repairs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Sample:
    """One annotated image on disk.

    Attributes
    ----------
    name : of the image, without suffix
    image : file
    labels : file, or the objects of a COCO json
    split : e.g. ``train``, ``val``; ``all`` where the data set names none
    modality : e.g. ``fluo_small``; the folder's name without an index
    dataset : the folder's name
    group : images of one group, such as one dish, are never parted by a split
    image_class : name of the whole image's class; None if it has none
    class_table : classes of the objects in a label image; COCO's stand with `labels`
    """

    name: str
    image: Path
    labels: Path | CocoLabels
    split: str
    modality: str
    dataset: str
    group: str | None = None
    image_class: str | None = None
    class_table: ObjectClasses | None = dataclasses.field(default=None, compare=False, repr=False)

    def object_classes(self) -> ObjectClasses | None:
        """Return the classes of the objects, by the file's ids; None if it has none."""
        if isinstance(self.labels, CocoLabels):
            objects = {i: o for i, o in enumerate(self.labels.objects, 1) if not o.is_crowd}
            return ObjectClasses(
                self.labels.file,
                {i: o.category for i, o in objects.items()},
                {i: o.id for i, o in objects.items()},
            )
        return self.class_table

    def is_classed(self) -> bool:
        """Tell whether the data set says of which classes the objects are."""
        if isinstance(self.labels, CocoLabels):
            return all(o.category is not None for o in self.labels.objects if not o.is_crowd)
        return self.class_table is not None

    def read(self) -> tuple[Array, Array, bool]:
        """Read image and labels, as in `Annotation`; warns of repaired labels.

        Raises
        ------
        DataError
            If the two don't fit, the labels aren't whole numbers from 0 on, or the
            image has values that are no numbers.
        InputError
            If a file can't be read.
        """
        read = self.read_annotated()
        if read.repairs:
            warnings.warn(repair_message([(self, read.repairs)], 1), DataWarning, stacklevel=2)
        return read.image_cyx, read.labels_yx, read.is_rgb

    def read_annotated(self, classes: Sequence[str] = ()) -> Annotation:
        """Read image, labels and the objects' classes; warns of nothing.

        Parameters
        ----------
        classes : the list that gives each class its number; empty: all objects are of
            class 0, whatever the data set says

        Raises
        ------
        DataError
            As `read`; or if an object has no class, or one outside the list.
        InputError
            If a file can't be read.
        """
        image = open_image(self.image)
        if isinstance(self.labels, CocoLabels):
            found = LabelImage(self.labels.draw(image.shape_yx))
        else:
            found = read_labels(self.labels, image.shape_yx, self.image)
        pixels = image.read((0, 0, *image.shape_yx))
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            n = int((~np.isfinite(pixels)).sum())
            raise DataError(
                expected="an image of finite values",
                got=f"NaN or infinity in {self.image} ({n} values)",
                remedy="Replace these pixels, for example by the median, and save it again.",
            )
        numbers = self._number_classes(found, classes)
        return Annotation(pixels, found.labels_yx, image.is_rgb, numbers, found.repairs)

    def _number_classes(self, found: LabelImage, classes: Sequence[str]) -> Array:
        labels = np.unique(found.labels_yx[found.labels_yx > 0])
        numbers = np.zeros(int(found.labels_yx.max(initial=0)) + 1, np.int64)
        if not len(classes) or not len(labels):
            return numbers
        table = self.object_classes()
        if table is None:
            raise DataError(
                expected=f"classes of the objects of {self.image}",
                got=f"a data set without any, {self.dataset!r}",
                remedy="Add classes/NAME.csv with the columns label and class,"
                " or train without classes.",
            )
        ids = labels if found.file_ids is None else found.file_ids[labels]
        numbers[labels] = table.index(ids, classes, str(self.image))
        return numbers


def repair_message(repaired: Sequence[tuple[Sample, tuple[str, ...]]], n_images: int) -> str:
    """Say in a line or a few what was repaired in some of `n_images` images."""
    shown = [f"{sample.labels}: {'; '.join(repairs)}" for sample, repairs in repaired[:3]]
    more = len(repaired) - len(shown)
    ending = [f"{more} more"] if more else []
    return (
        f"the labels of {len(repaired)} of {n_images} images were repaired. "
        + " · ".join(shown + ending)
        + ". Check them, and correct the files if this is not what they mean."
    )
