"""Generated images of every kind, on which nothing should be forgotten.

They are drawn anew from fixed seeds by `dinomask.train.generate`, so a reference
needs no file and is the same everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt.taught import TaughtImage
from dinomask.adapt.trial import Scene, cut_scenes
from dinomask.train.generate.compose import KINDS, generate_image

if TYPE_CHECKING:
    from collections.abc import Sequence

SEED = 20261
PER_KIND = 2
SIDE_PX = 224
PER_IMAGE = 3
"""Windows of an image that are judged by, at most. What an adapter loses is known no better than
within 4 points by 16 windows, and within 2 by 48."""

LEFT_OUT = ("cytology",)
"""A kind of which the bundled model hardly saw any."""


def reference_images(side_px: int = SIDE_PX, per_kind: int = PER_KIND) -> list[TaughtImage]:
    """Draw the reference images: known as a whole, each with at least one object.

    Parameters
    ----------
    side_px : of each image
    per_kind : images of each kind of microscopy
    """
    images = []
    for number, kind in enumerate(k for k in KINDS if k not in LEFT_OUT):
        drawn = attempt = 0
        while drawn < per_kind:
            made = generate_image(np.random.default_rng((SEED, number, attempt)), kind, side_px)
            attempt += 1
            if made.labels_yx.max() > 0:
                drawn += 1
                name = f"{kind} {drawn}"
                labels = made.labels_yx.astype(np.int32)
                images.append(TaughtImage(name, made.image_cyx, made.is_rgb, labels))
    return images


def reference_scenes(images: Sequence[TaughtImage], target_px: float) -> list[Scene]:
    """Cut windows of the reference, as many of each image.

    Parameters
    ----------
    images : from `reference_images`
    target_px : the model's target diameter
    """
    return [s for image in images for s in cut_scenes([image], target_px, None, most=PER_IMAGE)]
