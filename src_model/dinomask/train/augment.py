"""Training crops: a random view of an annotated image, with its truth."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dinomask.image.resample import (
    PAD_VALUE,
    clip_window,
    resample_window,
    scaled_length,
    source_range,
)
from dinomask.instances import UNSUPERVISED
from dinomask.train.annotated import AnnotatedImage
from dinomask.train.stain import drop_channel, vary_stains

if TYPE_CHECKING:
    from dinomask.config import AugmentConfig
    from dinomask.image.resample import Window

__all__ = ["AnnotatedImage", "Crop", "draw_crop", "finish_crop", "vary_intensity"]

Array = npt.NDArray[Any]

MIN_VISIBLE_PX = 20
"""Objects of which a crop shows fewer model pixels are left unsupervised."""

LOW_PCTS = (0.1, 1.0, 3.0)
HIGH_PCTS = (99.0, 99.8, 99.95)
"""Percentiles to draw from, so that the model doesn't depend on one choice."""


@dataclasses.dataclass(frozen=True)
class Crop:
    """One training crop.

    Attributes
    ----------
    image_cyx : shape (3, H, W), float32, normalised
    labels_yx : shape (H, W), int64; 1..N, 0 background, -1 unsupervised, -2 refuted
    boxes_yxyx_px : shape (N, 4), float32
    classes : shape (N,), int64
    areas_px : shape (N,), float32
    image_class : of the whole image; None if unknown
    """

    image_cyx: Array
    labels_yx: Array
    boxes_yxyx_px: Array
    classes: Array
    areas_px: Array
    image_class: int | None = None


def draw_crop(
    image: AnnotatedImage,
    crop_px: int,
    target_diameter_px: float,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Crop:
    """Cut one random crop, with geometry and intensities augmented.

    Parameters
    ----------
    image : with or without objects
    crop_px : side of the crop, in model pixels
    target_diameter_px : objects get about this diameter
    config : how much to vary
    rng : the only source of chance, so that a crop can be drawn again
    """
    rotated = rng.random() < config.rotate_probability
    side = math.ceil(crop_px * math.sqrt(2)) if rotated else crop_px
    scale_yx = _draw_scale(image, target_diameter_px, config, rng)
    window = _draw_window(image, scale_yx, side, rng)
    pixels, labels, outside = _cut(image, scale_yx, window, rng)
    if rotated:
        pixels, labels, outside = _rotate(pixels, labels, outside, crop_px, rng)
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    pixels, labels, outside = (_turn(a, turns, flip) for a in (pixels, labels[None], outside[None]))
    pixels = vary_intensity(pixels, config, rng)
    pixels = np.where(outside, PAD_VALUE, pixels).astype(np.float32)
    return finish_crop(pixels, labels[0], image.classes, image.image_class)


def _draw_scale(
    image: AnnotatedImage, target_px: float, config: AugmentConfig, rng: np.random.Generator
) -> tuple[float, float]:
    diameter = image.diameter_px or target_px
    if rng.random() < config.wide_scale_probability:
        log_scale = rng.uniform(-config.wide_scale_log_max, config.wide_scale_log_max)
    else:
        log_scale = rng.normal(0, config.scale_log_sigma)
        log_scale = float(np.clip(log_scale, -config.scale_log_max, config.scale_log_max))
    stretch = rng.uniform(-config.stretch_log_max, config.stretch_log_max) / 2
    scale = target_px / diameter * math.exp(log_scale)
    return scale * math.exp(stretch), scale * math.exp(-stretch)


def _draw_window(
    image: AnnotatedImage, scale_yx: tuple[float, float], side: int, rng: np.random.Generator
) -> Window:
    shape = image.labels_yx.shape
    if len(image.centres_yx) and rng.random() < image.centred_share:
        point = image.centres_yx[rng.integers(len(image.centres_yx))]
    else:
        point = rng.random(2) * shape
    centre = point * scale_yx + rng.uniform(-0.25, 0.25, 2) * side
    start = []
    for axis in range(2):
        length = scaled_length(shape[axis], scale_yx[axis])
        first = round(float(centre[axis]) - side / 2)
        # stay mostly inside, but let a tenth of the crop show the image's edge
        margin = side // 10
        low, high = -margin, length - side + margin
        start.append(min(max(first, low), high) if low <= high else (length - side) // 2)
    return start[0], start[1], start[0] + side, start[1] + side


def _cut(
    image: AnnotatedImage,
    scale_yx: tuple[float, float],
    window: Window,
    rng: np.random.Generator,
) -> tuple[Array, Array, Array]:
    shape = image.labels_yx.shape
    height, width = window[2] - window[0], window[3] - window[1]
    pixels = np.full((3, height, width), PAD_VALUE, np.float32)
    labels = np.zeros((height, width), np.int64)
    outside = np.ones((height, width), bool)
    scaled = tuple(scaled_length(n, s) for n, s in zip(shape, scale_yx, strict=True))
    inner = clip_window(window, (scaled[0], scaled[1]))
    if inner[0] >= inner[2] or inner[1] >= inner[3]:
        return pixels, labels, outside
    rows = slice(inner[0] - window[0], inner[2] - window[0])
    cols = slice(inner[1] - window[1], inner[3] - window[1])
    top, bottom = source_range(inner[0], inner[2], scale_yx[0], shape[0])
    left, right = source_range(inner[1], inner[3], scale_yx[1], shape[1])
    normaliser = image.normaliser(float(rng.choice(LOW_PCTS)), float(rng.choice(HIGH_PCTS)))
    piece = normaliser.apply(image.image_cyx[:, top:bottom, left:right])
    pixels[:, rows, cols] = resample_window(piece, (top, left), shape, scale_yx, inner)
    y = _nearest(inner[0], inner[2], scale_yx[0], shape[0])
    x = _nearest(inner[1], inner[3], scale_yx[1], shape[1])
    labels[rows, cols] = image.labels_yx[y[:, None], x[None, :]]
    outside[rows, cols] = False
    return pixels, labels, outside


def _nearest(start: int, stop: int, scale: float, n_px: int) -> Array:
    index: Array = np.floor((np.arange(start, stop) + 0.5) / scale).astype(np.int64)
    return np.clip(index, 0, n_px - 1)


def _rotate(
    pixels: Array, labels: Array, outside: Array, crop_px: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    angle = rng.uniform(-math.pi, math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    offset = (np.array(labels.shape) - 1) / 2 - turn @ np.full(2, (crop_px - 1) / 2)
    size = (crop_px, crop_px)

    def apply(plane: Array, order: int, fill: float) -> Array:
        moved: Array = ndimage.affine_transform(
            plane, turn, offset, size, order=order, mode="constant", cval=fill
        )
        return moved

    colours = np.stack([apply(plane, 1, PAD_VALUE) for plane in pixels])
    return colours, apply(labels, 0, 0), apply(outside.astype(np.uint8), 0, 1).astype(bool)


def _turn(planes: Array, turns: int, flip: bool) -> Array:
    turned = np.rot90(planes, turns, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if flip else turned)


def vary_intensity(pixels_cyx: Array, config: AugmentConfig, rng: np.random.Generator) -> Array:
    """Change colours, contrast, sharpness and noise of a crop of shape (3, H, W)."""
    pixels = _vary_colour(pixels_cyx, config, rng)
    if rng.random() < config.invert_probability:
        pixels = 1.0 - pixels
    gamma = math.exp(rng.uniform(-config.gamma_log_max, config.gamma_log_max))
    pixels = np.clip(pixels, 0.0, None) ** gamma
    if rng.random() < config.shading_probability:
        pixels = pixels * _shading(pixels.shape[1:], rng)
    gain = 1.0 + rng.uniform(-config.contrast_max, config.contrast_max)
    shift = rng.uniform(-config.contrast_max, config.contrast_max) / 2
    pixels = (pixels - 0.5) * gain + 0.5 + shift
    if rng.random() < config.blur_probability:
        sigma = rng.uniform(0.3, config.blur_sigma_max_px)
        pixels = ndimage.gaussian_filter(pixels, (0, sigma, sigma))
    if rng.random() < config.noise_probability:
        sigma = rng.uniform(0, config.noise_sigma_max)
        grey = np.ptp(pixels[:, 0, 0]) == 0
        shape = (1, *pixels.shape[1:]) if grey else pixels.shape
        pixels = pixels + sigma * rng.standard_normal(shape, dtype=np.float32)
    varied: Array = pixels.astype(np.float32)
    return varied


def _vary_colour(pixels: Array, config: AugmentConfig, rng: np.random.Generator) -> Array:
    is_colour = bool(np.any(pixels[0] != pixels[1]) or np.any(pixels[0] != pixels[2]))
    if is_colour:
        if rng.random() < config.grey_probability:
            grey = np.tensordot(rng.dirichlet((2.0, 2.0, 2.0)), pixels, axes=1)
            return np.repeat(grey[None], 3, axis=0)
        if rng.random() < config.drop_channel_probability:
            pixels = drop_channel(pixels, rng)
        elif rng.random() < config.stain_probability:
            return vary_stains(pixels, rng)
        gains = np.exp(rng.uniform(-0.2, 0.2, 3))[:, None, None]
        varied: Array = 1.0 - (1.0 - pixels) * gains if rng.random() < 0.5 else pixels * gains
        return varied
    if rng.random() < config.tint_probability:
        # one fluorescence channel shown in a colour, as microscopes export it
        tint: Array = rng.permutation([1.0, rng.random(), 0.0])[:, None, None]
        pixels = pixels * tint
    return pixels


def _shading(shape_yx: tuple[int, ...], rng: np.random.Generator) -> Array:
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape_yx)
    tilt_y, tilt_x, dome = rng.uniform(-0.3, 0.3, 3)
    field: Array = (
        1.0 + tilt_y * y[:, None] + tilt_x * x[None] - dome * (y[:, None] ** 2 + x[None] ** 2)
    )
    clipped: Array = np.clip(field, 0.2, None)
    return clipped


def finish_crop(
    pixels_cyx: Array,
    labels_yx: Array,
    classes: Array | None = None,
    image_class: int | None = None,
) -> Crop:
    """Give the objects the labels 1..N and measure them; slivers become unsupervised.

    Parameters
    ----------
    pixels_cyx : shape (3, H, W), float32
    labels_yx : shape (H, W), integer; any ids, -1 for unsupervised, -2 for refuted
    classes : shape (max id + 1,), class of each id; None: all are of class 0
    image_class : of the whole image; None if unknown
    """
    ids, areas = np.unique(labels_yx[labels_yx > 0], return_counts=True)
    kept = areas >= MIN_VISIBLE_PX
    numbers = np.zeros(int(labels_yx.max(initial=0)) + 1, np.int64)
    numbers[ids] = UNSUPERVISED
    numbers[ids[kept]] = np.arange(1, int(kept.sum()) + 1)
    compact = np.where(labels_yx < 0, labels_yx, numbers[np.maximum(labels_yx, 0)])
    boxes = [
        (y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(np.maximum(compact, 0))
    ]
    return Crop(
        pixels_cyx,
        compact,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.zeros(len(boxes), np.int64) if classes is None else classes[ids[kept]],
        areas[kept].astype(np.float32),
        image_class,
    )
