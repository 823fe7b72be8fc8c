"""An annotated image in memory, ready to be cropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from dinomask.config import NormaliseConfig
from dinomask.image.normalise import Normaliser, fit_array
from dinomask.train.classes import image_class_index
from dinomask.train.datasets import Sample, median_diameter_px

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.instances import Array


OBJECT_CENTRED = 0.8
"""Share of crops placed on an object; the others fall anywhere."""


class AnnotatedImage:
    """An image with its labels, where its objects are and how large.

    `centres_yx`, shape (N, 2) in pixels, are the places that `centred_share` of the crops
    are put on: the objects'.

    Parameters
    ----------
    image_cyx, labels_yx, is_rgb, classes, repairs : as in `dinomask.train.samples.Annotation`;
        without classes all objects are of class 0
    image_class : of the whole image; None if unknown
    samples_cn : shape (C, N); pixels of the image that this is a piece of, by which its
        intensities are normalised; None takes its own
    """

    def __init__(
        self,
        image_cyx: Array,
        labels_yx: Array,
        is_rgb: bool,
        classes: Array | None = None,
        image_class: int | None = None,
        repairs: tuple[str, ...] = (),
        samples_cn: Array | None = None,
    ) -> None:
        self.image_cyx = image_cyx
        self.labels_yx = labels_yx
        self.is_rgb = is_rgb
        self.classes = classes
        self.image_class = image_class
        self.repairs = repairs
        self.samples_cn = samples_cn
        self.diameter_px = median_diameter_px(labels_yx)
        self.centred_share = OBJECT_CENTRED
        self._normalisers: dict[tuple[float, float], Normaliser] = {}
        objects = ndimage.find_objects(labels_yx)
        self.centres_yx = np.array(
            [[(s.start + s.stop) / 2 for s in box] for box in objects if box is not None]
        ).reshape(-1, 2)

    @classmethod
    def read(
        cls, sample: Sample, classes: Sequence[str] = (), image_classes: Sequence[str] = ()
    ) -> AnnotatedImage:
        """Read a sample from disk.

        Parameters
        ----------
        sample : where it lies
        classes, image_classes : the lists that give classes their numbers; without a
            list all objects are of class 0, and the image of none

        Raises
        ------
        DataError
            If the annotations don't fit, see `Sample.read_annotated`.
        InputError
            If a file can't be read.
        """
        read = sample.read_annotated(classes)
        labels = read.labels_yx
        if labels.max(initial=0) <= np.iinfo(np.int16).max:
            # a training holds all its images in memory
            labels = labels.astype(np.int16)
        number = image_class_index(sample.image_class, image_classes, str(sample.image))
        return cls(read.image_cyx, labels, read.is_rgb, read.classes, number, read.repairs)

    def object_classes(self) -> Array:
        """Return the class of each object, shape (N,), int64."""
        labels = np.unique(self.labels_yx[self.labels_yx > 0])
        if self.classes is None:
            return np.zeros(len(labels), np.int64)
        classes: Array = self.classes[labels]
        return classes

    def normaliser(self, low_pct: float, high_pct: float) -> Normaliser:
        """Return the normaliser for a pair of percentiles, fitted once."""
        if (low_pct, high_pct) not in self._normalisers:
            self._normalisers[low_pct, high_pct] = self._fit(low_pct, high_pct)
        return self._normalisers[low_pct, high_pct]

    def _fit(self, low_pct: float, high_pct: float) -> Normaliser:
        pixels = self.samples_cn
        if pixels is None:
            pixels = self.image_cyx.reshape(len(self.image_cyx), -1)
        step = max(1, pixels.shape[1] // 200_000)
        config = NormaliseConfig(low_pct=low_pct, high_pct=high_pct)
        return fit_array(pixels[:, ::step], self.is_rgb, config)
