"""Generated images of every kind, on which nothing should be forgotten.

They are drawn anew from fixed seeds by `dinomask.train.generate`, so a reference
needs no file and is the same everywhere.
"""

from __future__ import annotations

import numpy as np

from dinomask.adapt.taught import TaughtImage
from dinomask.train.generate.compose import KINDS, generate_image

SEED = 20261
PER_KIND = 2
SIDE_PX = 224
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
