"""Colours of stained tissue, varied as laboratories and scanners vary them.

Tellez et al., "Whole-slide mitosis detection in H&E breast histology using PHH3
as a reference to train distilled stain-invariant convolutional networks", arXiv
1808.05896: optical densities are unmixed to stains (Ruifrok and Johnston 2001),
each stain's amount is changed by a factor and an offset, and mixed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from skimage.color import hed_from_rgb, rgb_from_hed

if TYPE_CHECKING:
    Rng = np.random.Generator

Array = npt.NDArray[Any]

DARKEST = 1e-2
"""Transmission below which nothing more is told apart."""


def vary_stains(
    pixels_cyx: Array, rng: Rng, factor_max: float = 0.25, offset_max: float = 0.04
) -> Array:
    """Change the amounts of haematoxylin, eosin and the residual of a crop.

    Parameters
    ----------
    pixels_cyx : shape (3, H, W), float; transmitted light, 1 where nothing absorbs
    rng : the only source of chance
    factor_max : largest relative change of a stain's amount
    offset_max : largest amount of a stain added everywhere, in optical density

    Returns
    -------
    shape (3, H, W), float32
    """
    density = -np.log(np.clip(pixels_cyx, DARKEST, None))
    factors = 1 + rng.uniform(-factor_max, factor_max, 3)
    offsets = rng.uniform(-offset_max, offset_max, 3)
    # rows of the matrices are stains: densities (…, RGB) @ hed_from_rgb = amounts
    mix = (hed_from_rgb * factors) @ rgb_from_hed
    shift = offsets @ rgb_from_hed
    varied = np.tensordot(mix.T, density, axes=1) + shift[:, None, None]
    transmitted: Array = np.exp(-varied).astype(np.float32)
    return transmitted


def drop_channel(pixels_cyx: Array, rng: Rng) -> Array:
    """Replace one of three channels by the mean of the other two."""
    lost = int(rng.integers(3))
    others = [c for c in range(3) if c != lost]
    dropped = pixels_cyx.copy()
    dropped[lost] = pixels_cyx[others].mean(axis=0)
    return dropped
