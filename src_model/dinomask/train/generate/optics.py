"""What a microscope and its camera add to a scene: blur, light, clutter and noise.

All planes have the shape (Y, X) and are float32. Filters wrap around at the
borders: scenes are drawn with a margin that is cut off at the end.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import fft

if TYPE_CHECKING:
    Rng = np.random.Generator

Array = npt.NDArray[Any]


def blur(plane_yx: Array, sigma_px: float | tuple[float, float]) -> Array:
    """Blur by a Gaussian of any width, in the time of two Fourier transforms."""
    sigma_y, sigma_x = sigma_px if isinstance(sigma_px, tuple) else (sigma_px, sigma_px)
    height, width = plane_yx.shape
    along_y = np.exp(-2 * (math.pi * sigma_y * fft.fftfreq(height)) ** 2)
    along_x = np.exp(-2 * (math.pi * sigma_x * fft.rfftfreq(width)) ** 2)
    transfer = np.outer(along_y, along_x).astype(np.float32)
    spectrum = fft.rfft2(plane_yx.astype(np.float32, copy=False))
    blurred: Array = fft.irfft2(spectrum * transfer, s=plane_yx.shape)
    return blurred


def smooth_noise(
    rng: Rng, shape_yx: tuple[int, int], sigma_px: float | tuple[float, float]
) -> Array:
    """Return Gaussian noise of mean 0 and standard deviation 1 with a given grain.

    Blurred white noise, of which only the frequencies are drawn that the blur lets pass.
    """
    sigma_y, sigma_x = sigma_px if isinstance(sigma_px, tuple) else (sigma_px, sigma_px)
    height, width = shape_yx
    last_y, last_x = (
        min(n // 2, math.ceil(n * 0.7 / max(s, 0.1)))
        for n, s in ((height, sigma_y), (width, sigma_x))
    )
    y, x = np.r_[0 : last_y + 1, -last_y + (last_y == height / 2) : 0], np.arange(last_x + 1)
    drawn = rng.standard_normal((2, len(y), len(x)), dtype=np.float32)
    along_y = np.exp(-2 * (math.pi * sigma_y / height * y) ** 2)
    along_x = np.exp(-2 * (math.pi * sigma_x / width * x) ** 2)
    spectrum = np.zeros((height, width // 2 + 1), np.complex64)
    spectrum[y[:, None], x] = (drawn[0] + 1j * drawn[1]) * np.outer(along_y, along_x)
    spectrum[0, 0] = 0
    noise = fft.irfft2(spectrum, s=shape_yx)
    scaled: Array = noise / max(float(noise.std()), 1e-12)
    return scaled


def warp(rng: Rng, plane_yx: Array, reach_px: float, sigma_px: float) -> Array:
    """Move pixels by a smooth random field of about `reach_px`."""
    height, width = plane_yx.shape
    shape = (height, width)
    y = np.arange(height)[:, None] + reach_px * smooth_noise(rng, shape, sigma_px)
    x = np.arange(width)[None] + reach_px * smooth_noise(rng, shape, sigma_px)
    moved: Array = plane_yx[y.astype(np.int32) % height, x.astype(np.int32) % width]
    return moved


def filaments(rng: Rng, shape_yx: tuple[int, int], sigma_px: float, width: float = 0.25) -> Array:
    """Return a network of lines, 0 to 1: the zero crossings of smooth noise."""
    stretch = math.exp(rng.uniform(-0.7, 0.7))
    noise = smooth_noise(rng, shape_yx, (sigma_px * stretch, sigma_px / stretch))
    lines: Array = np.exp(-((noise / width) ** 2))
    return lines


def speckle(rng: Rng, shape_yx: tuple[int, int], density: float, sigma_px: float) -> Array:
    """Return spots of mixed strength with a peak of about 1, `density` of them a pixel."""
    spots = np.zeros(shape_yx, np.float32)
    n_spots = rng.poisson(density * spots.size)
    at = rng.integers(0, spots.size, n_spots)
    spots.ravel()[at] = rng.uniform(0.3, 1.0, n_spots)
    return blur(spots, sigma_px) * (2 * math.pi * max(sigma_px, 0.4) ** 2)


def illumination(rng: Rng, shape_yx: tuple[int, int], strength: float) -> Array:
    """Return the light's share at each pixel: tilt, vignetting and slow patches; mean about 1."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape_yx)
    tilt_y, tilt_x, middle_y, middle_x = rng.uniform(-1, 1, 4)
    dome = (y[:, None] - middle_y / 2) ** 2 + (x[None] - middle_x / 2) ** 2
    field = 0.5 * (tilt_y * y[:, None] + tilt_x * x[None]) - 0.6 * rng.random() * (dome - 0.7)
    field = field + 0.15 * smooth_noise(rng, shape_yx, min(shape_yx) / 6)
    lit: Array = np.clip(1 + strength * field, 0.15, None).astype(np.float32)
    return lit


def out_of_focus(rng: Rng, shape_yx: tuple[int, int], diameter_px: float) -> Array:
    """Return defocused blobs, 0 to about 1: objects above or below that nobody outlines."""
    n_blobs = rng.integers(1, 9)
    haze = np.zeros(shape_yx, np.float32)
    at = rng.integers(0, haze.size, n_blobs)
    haze.ravel()[at] = rng.uniform(0.2, 1.0, n_blobs)
    sigma = diameter_px * rng.uniform(0.45, 0.9)
    return blur(haze, sigma) * (2 * math.pi * sigma**2)


def relief(plane_yx: Array, angle: float, shear_px: float) -> Array:
    """Return the slope of a plane along a direction: differential interference contrast."""
    fy, fx = fft.fftfreq(plane_yx.shape[0])[:, None], fft.rfftfreq(plane_yx.shape[1])[None]
    shift = math.sin(angle) * fy + math.cos(angle) * fx
    transfer = (2j * np.sin(math.pi * shear_px * shift)).astype(np.complex64)
    slope: Array = fft.irfft2(
        fft.rfft2(plane_yx.astype(np.float32, copy=False)) * transfer, s=plane_yx.shape
    )
    return slope


def photon_noise(rng: Rng, signal_yx: Array, photons: float, read: float) -> Array:
    """Count photons, `photons` at a signal of 1, and add read noise, relative to 1."""
    counted = rng.poisson(np.clip(signal_yx, 0, None) * photons).astype(np.float32) / photons
    noisy: Array = counted + read * rng.standard_normal(signal_yx.shape, dtype=np.float32)
    return noisy


def stripes(rng: Rng, shape_yx: tuple[int, int], strength: float) -> Array:
    """Return line noise of a scanning microscope or camera; along y or x, mean 0."""
    axis = int(rng.integers(2))
    line = strength * rng.standard_normal(shape_yx[axis], dtype=np.float32)
    lines: Array = np.broadcast_to(line[:, None] if axis == 0 else line[None], shape_yx)
    return lines


def compress(pixels_cyx: Array, quality: int) -> Array:
    """Pass an 8-bit image of one or three channels through JPEG; shape and dtype stay."""
    planes = pixels_cyx[0] if len(pixels_cyx) == 1 else np.moveaxis(pixels_cyx, 0, -1)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(planes)).save(file, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(file))
    return decoded[None] if len(pixels_cyx) == 1 else np.moveaxis(decoded, -1, 0)
