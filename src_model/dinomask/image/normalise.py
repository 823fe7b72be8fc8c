"""Intensities to model input, fitted once an image so that tiles agree."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dinomask.config import NormaliseConfig
from dinomask.errors import ChunkError, InputError
from dinomask.image.chunks import quarters

if TYPE_CHECKING:
    from dinomask.image.source import Image

Array = npt.NDArray[Any]

BLOCK_PX = 256
"""Side of the blocks in which large images are sampled."""

CLIP = (-1.0, 3.0)
"""Normalised values beyond these (hot pixels) are cut, so they can't upset the network."""


@dataclasses.dataclass(frozen=True)
class Normaliser:
    """Maps detector counts to three channels with values around 0 to 1.

    Attributes
    ----------
    low, high : one value a channel, in detector counts
    is_rgb : keep three channels as colours; otherwise they are averaged to grey
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    is_rgb: bool

    def apply(self, image_cyx: Array) -> Array:
        """Normalise a piece of the image.

        Parameters
        ----------
        image_cyx : shape (C, Y, X), any real dtype, C as fitted

        Returns
        -------
        shape (3, Y, X), float32, unitless; constant channels become zeros
        """
        low = np.asarray(self.low, np.float64)[:, None, None]
        span = np.asarray(self.high, np.float64)[:, None, None] - low
        gain = np.divide(1.0, span, out=np.zeros_like(span), where=span > 0)
        scaled = ((image_cyx - low) * gain).astype(np.float32)
        scaled = np.clip(scaled, *CLIP)
        if self.is_rgb:
            return scaled
        grey = scaled.mean(axis=0, keepdims=True)
        return np.repeat(grey, 3, axis=0)


def fit_array(samples_cn: Array, is_rgb: bool, config: NormaliseConfig) -> Normaliser:
    """Find the percentiles of pixels already in memory.

    Parameters
    ----------
    samples_cn : shape (C, N), detector counts; not finite values are passed over
    is_rgb : one pair of percentiles for all colours, so that hues survive
    config : which percentiles

    Returns
    -------
    Normaliser
        Constant or empty channels get ``low == high`` and normalise to zeros.
    """
    rows = [samples_cn.reshape(-1)] * len(samples_cn) if is_rgb else list(samples_cn)
    low, high = [], []
    for row in rows:
        values = np.asarray(row, np.float64)
        values = values[np.isfinite(values)]
        pair = np.percentile(values, [config.low_pct, config.high_pct]) if values.size else (0, 0)
        if values.size and pair[0] == pair[1]:
            # sparse images: less than 0.2 % of the pixels carry all the signal
            pair = (values.min(), values.max())
        low.append(float(pair[0]))
        high.append(float(pair[1]))
    return Normaliser(tuple(low), tuple(high), is_rgb)


def fit_normaliser(image: Image, config: NormaliseConfig | None = None) -> Normaliser:
    """Find the percentiles of an image from a bounded, evenly spread sample.

    Parameters
    ----------
    image : any size; the coarsest level with enough pixels is read, in blocks
    config : percentiles and the largest number of pixels to read

    Raises
    ------
    InputError
        If the image has no pixels.
    """
    config = config or NormaliseConfig()
    if min(image.shape_yx) < 1:
        raise InputError(
            expected="an image with at least one pixel",
            got=f"shape {image.shape_yx}",
            remedy="Choose another image.",
        )
    samples_cn, _ = read_samples(image, config.max_samples)
    return fit_array(samples_cn, image.is_rgb, config)


def read_samples(image: Image, max_samples: int) -> tuple[Array, int]:
    """Read a bounded, evenly spread sample of level 0, passing over what is unreadable.

    Parameters
    ----------
    image : any size
    max_samples : pixels a channel to read at most

    Returns
    -------
    samples : shape (C, N)
    n_unreadable : blocks that could not be read

    Raises
    ------
    ChunkError
        If nothing can be read.
    """
    samples, errors = [], []
    windows = sample_windows(image.shape_yx, max_samples)
    while windows:
        window = windows.pop(0)
        try:
            samples.append(image.read(window).reshape(image.n_channels, -1))
        except ChunkError as error:
            parts = quarters(window)
            windows += parts
            if not parts:
                errors.append(error)
    if not samples:
        raise errors[0]
    return np.concatenate(samples, axis=1), len(errors)


def sample_windows(
    shape_yx: tuple[int, int], max_samples: int, block_px: int = BLOCK_PX
) -> list[tuple[int, int, int, int]]:
    """Plan half-open windows that cover an image evenly within a pixel budget.

    Small images are covered whole; of large ones a regular grid of blocks is
    taken, the same each time.
    """
    height, width = shape_yx
    if height * width <= max_samples:
        return [(0, 0, height, width)]
    n_blocks = max(1, max_samples // (min(block_px, height) * min(block_px, width)))
    spread = round(math.sqrt(n_blocks * height / width))
    rows = max(1, min(math.ceil(height / block_px), spread, n_blocks))
    cols = max(1, min(math.ceil(width / block_px), n_blocks // rows))
    tops = np.linspace(0, max(height - block_px, 0), rows).astype(int)
    lefts = np.linspace(0, max(width - block_px, 0), cols).astype(int)
    return [
        (int(y), int(x), int(min(y + block_px, height)), int(min(x + block_px, width)))
        for y in tops
        for x in lefts
    ]
