"""Instances: what the network finds, the ledger stores and the renderer draws."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable

Array = npt.NDArray[Any]


UNSUPERVISED = -1
"""Label of pixels of which nothing is known: neither object nor background."""

REFUTED = -2
"""Label of background where an object was found and somebody said that there is none."""


@dataclasses.dataclass(frozen=True)
class Instances:
    """N segmented objects, in image pixels.

    A mask is a small grid of probabilities stretched over its box, so a record
    costs under a kilobyte and is drawn sharply at any resolution.

    Attributes
    ----------
    boxes_yxyx_px : shape (N, 4), float32; y0, x0, y1, x1, half-open, sub-pixel
    scores : shape (N,), float32, in [0, 1]
    classes : shape (N,), int32, in [0, C)
    masks : shape (N, M, M), uint8; probability * 255, cell (i, j) covers
        the i-th of M equal slices of the box along y and the j-th along x
    """

    boxes_yxyx_px: Array
    scores: Array
    classes: Array
    masks: Array

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: Array) -> Instances:
        """Return the instances chosen by a boolean mask or an index array."""
        return Instances(
            self.boxes_yxyx_px[index],
            self.scores[index],
            self.classes[index],
            self.masks[index],
        )

    def diameters_px(self) -> Array:
        """Return the diameter of the circle of each mask's area, in the boxes' unit, shape (N,)."""
        boxes = self.boxes_yxyx_px
        cell = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) / np.prod(self.masks.shape[1:])
        areas = (self.masks >= 128).sum(axis=(1, 2)) * cell
        return np.asarray(np.sqrt(4 / np.pi * areas))

    @staticmethod
    def empty(mask_px: int = 28) -> Instances:
        """Return no instances."""
        return Instances(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int32),
            np.zeros((0, mask_px, mask_px), np.uint8),
        )

    @staticmethod
    def concatenate(parts: Iterable[Instances]) -> Instances:
        """Join several sets in order; masks must have one size."""
        kept = list(parts)
        if not kept:
            return Instances.empty()
        return Instances(
            np.concatenate([p.boxes_yxyx_px for p in kept]),
            np.concatenate([p.scores for p in kept]),
            np.concatenate([p.classes for p in kept]),
            np.concatenate([p.masks for p in kept]),
        )


def _linear_taps(start: float, end: float, first_px: int, n_px: int, m: int) -> tuple[Array, ...]:
    """Where n_px pixel centres fall in a row of m cells stretched from start to end.

    Returns the lower and the upper cell, the upper one's weight, and 1 for
    centres in [start, end), else 0; each of shape (n_px,).
    """
    centres = first_px + np.arange(n_px) + 0.5
    position = (centres - start) * (m / max(end - start, 1e-6)) - 0.5
    # beyond the outer cells' centres the mask goes on unchanged up to the box's edge
    position = np.minimum(np.maximum(position, 0.0), m - 1.0)
    lower = position.astype(np.intp)
    upper = np.minimum(lower + 1, m - 1)
    inside = (centres >= start) & (centres < end)
    return lower, upper, (position - lower).astype(np.float32), inside.astype(np.float32)


def paste_probability(
    mask: Array,
    box_yxyx_px: Array,
    window_yxyx_px: tuple[int, int, int, int] | None = None,
) -> tuple[Array, tuple[int, int]]:
    """Draw one mask at the image's resolution, by bilinear interpolation.

    Parameters
    ----------
    mask : shape (M, M), uint8 probability * 255
    box_yxyx_px : shape (4,), in image pixels
    window_yxyx_px : draw only what lies in this window of the image

    Returns
    -------
    probability : shape (h, w), float32 in [0, 1]; covers every pixel whose
        centre can lie in the box, at least one where there is no window;
        (0, 0) where box and window are apart
    origin_yx : image coordinates of its first pixel (may be negative)

    Notes
    -----
    Every pixel is computed by itself, in one fixed order of operations. So its
    value is the same to the last bit whatever the window; with a matrix
    product it is not, and two chunks could disagree where masks meet.
    """
    y0, x0, y1, x1 = (float(v) for v in box_yxyx_px)
    top, left = int(np.floor(y0)), int(np.floor(x0))
    bottom, right = max(int(np.ceil(y1)), top + 1), max(int(np.ceil(x1)), left + 1)
    if window_yxyx_px is not None:
        first_y, first_x, end_y, end_x = window_yxyx_px
        top, left = max(top, first_y), max(left, first_x)
        bottom, right = min(bottom, end_y), min(right, end_x)
        if bottom <= top or right <= left:
            return np.zeros((0, 0), np.float32), (top, left)
    cells = mask.astype(np.float32) / np.float32(255)
    lower, upper, weight, inside = _linear_taps(y0, y1, top, bottom - top, mask.shape[0])
    rows = cells[lower]
    rows += (cells[upper] - rows) * weight[:, None]
    rows *= inside[:, None]
    lower, upper, weight, inside = _linear_taps(x0, x1, left, right - left, mask.shape[1])
    probability = rows[:, lower]
    probability += (rows[:, upper] - probability) * weight
    probability *= inside
    return probability, (top, left)


def draw(found: Instances, shape_yx: tuple[int, ...]) -> Array:
    """Draw instances into a label image; where two meet the surer one wins."""
    labels = np.zeros(shape_yx, np.int32)
    for i in np.argsort(found.scores, kind="stable"):
        window = (0, 0, shape_yx[0], shape_yx[1])
        probability, (y, x) = paste_probability(found.masks[i], found.boxes_yxyx_px[i], window)
        here = labels[y : y + probability.shape[0], x : x + probability.shape[1]]
        here[probability >= 0.5] = i + 1
    return labels
