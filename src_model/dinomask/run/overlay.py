"""A picture of an image with the outlines of its instances, to look at a result."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import imageio.v3 as imageio
import numpy as np
import numpy.typing as npt
from skimage.segmentation import find_boundaries

from dinomask.image.normalise import fit_normaliser
from dinomask.image.resample import read_scaled, scaled_length
from dinomask.tiles.outputs import replacing
from dinomask.tiles.render import render_window

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.image.source import Image
    from dinomask.tiles.stitch import Stitched

Array = npt.NDArray[Any]

MIN_SIDE_PX, MAX_SIDE_PX = 768, 2048
"""Small images are enlarged and large ones reduced to a longer side in between."""

GOLDEN_ANGLE = 0.61803398875
"""Turns between the hues of successive ids, so that neighbours differ."""


def draw_overlay(image: Image, stitched: Stitched) -> Array:
    """Draw outlines and a light fill, a colour an instance.

    Returns
    -------
    shape (h, w, 3), uint8
    """
    longer = max(image.shape_yx)
    scale = min(max(1.0, MIN_SIDE_PX / longer), MAX_SIDE_PX / longer)
    height, width = (scaled_length(n, scale) for n in image.shape_yx)
    picture_cyx = read_scaled(image, fit_normaliser(image), scale, (0, 0, height, width))
    picture = np.moveaxis(np.clip(picture_cyx, 0, 1), 0, 2)
    labels = render_window(stitched.scaled(scale), (0, 0, height, width))
    colours = hues(int(labels.max(initial=0)))[labels]
    inside, edge = labels > 0, find_boundaries(labels, mode="inner")  # type: ignore[no-untyped-call]
    picture = np.where(inside[..., None], 0.75 * picture + 0.25 * colours, picture)
    picture = np.where(edge[..., None], colours, picture)
    return np.round(picture * 255).astype(np.uint8)


def hues(n: int) -> Array:
    """Return n + 1 colours, shape (n + 1, 3) in [0, 1]; the first is black."""
    rows = [colorsys.hsv_to_rgb((i * GOLDEN_ANGLE) % 1, 0.75, 1.0) for i in range(n)]
    return np.array([(0.0, 0.0, 0.0), *rows], np.float32)


def write_overlay(image: Image, stitched: Stitched, out: Path) -> None:
    """Write `draw_overlay` as PNG, replacing an earlier one at one stroke.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    with replacing(out) as temporary:
        imageio.imwrite(temporary, draw_overlay(image, stitched), extension=".png")
