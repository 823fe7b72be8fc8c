"""Small images of which some is known."""

from __future__ import annotations

import numpy as np

from dinomask.adapt.taught import TaughtImage
from tests.train.scenes import disc_labels, image_of


def taught_discs(seed: int = 0, n: int = 8, side_px: int = 160, **known: object) -> TaughtImage:
    """Return discs of which all is known, unless told otherwise."""
    labels = disc_labels(n, side_px, 10, seed).astype(np.int32)
    image = image_of(labels)[None]
    fields = {"labels_yx": labels} | known
    return TaughtImage(f"scene{seed}", image, False, **fields)
