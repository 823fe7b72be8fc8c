"""Removal of doubles by their masks, which boxes alone don't show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.instances import Array, Instances, paste_probability

if TYPE_CHECKING:
    from dinomask.config import DetectConfig

Box = tuple[int, int, int, int]


def drop_duplicates(found: Instances, shape_yx: tuple[int, int], config: DetectConfig) -> Instances:
    """Keep the better one of instances that show the same object.

    Instances are taken in the order of their scores. One is dropped if, with
    an instance kept before, its IoU is above `duplicate_iou`, or the overlap
    covers more than `duplicate_iomin` of the smaller of the two, or if its
    mask is empty. Whole masks are compared, two at a time: if only the pixels
    that no third instance holds counted, a wide mask around a kept object
    could pass and be drawn as a ring.

    Parameters
    ----------
    found : best score first; boxes in pixels of the canvas
    shape_yx : size of the canvas (a tile, in model pixels)
    config : the two limits

    Returns
    -------
    the kept instances, in the same order
    """
    kept: list[int] = []
    masks: list[Array] = []
    # where each kept mask was drawn, and how many pixels it has
    windows = np.zeros((len(found), 4), np.int64)
    areas = np.zeros(len(found), np.int64)
    for i in range(len(found)):
        probability, (y, x) = paste_probability(
            found.masks[i], found.boxes_yxyx_px[i], (0, 0, *shape_yx)
        )
        mask_yx = probability >= 0.5
        area = int(np.count_nonzero(mask_yx))
        if area == 0:
            continue
        n = len(kept)
        window = (y, x, y + mask_yx.shape[0], x + mask_yx.shape[1])
        near = _touching(window, windows[:n])
        overlap = np.array(
            [_shared(mask_yx, window, masks[k], tuple(windows[k].tolist())) for k in near], np.int64
        )
        if _is_double(overlap, area, areas[near], config):
            continue
        kept.append(i)
        masks.append(mask_yx)
        windows[n], areas[n] = window, area
    return found.take(np.array(kept, np.int64))


def _touching(window_yxyx: Box, others_yxyx: Array) -> Array:
    apart = (others_yxyx[:, :2] >= window_yxyx[2:]) | (others_yxyx[:, 2:] <= window_yxyx[:2])
    return np.flatnonzero(~apart.any(axis=1))


def _shared(mask_a: Array, window_a: Box, mask_b: Array, window_b: Box) -> int:
    """Count the pixels of both of two masks whose windows overlap."""
    top, left = max(window_a[0], window_b[0]), max(window_a[1], window_b[1])
    bottom, right = min(window_a[2], window_b[2]), min(window_a[3], window_b[3])
    a = mask_a[top - window_a[0] : bottom - window_a[0], left - window_a[1] : right - window_a[1]]
    b = mask_b[top - window_b[0] : bottom - window_b[0], left - window_b[1] : right - window_b[1]]
    return int(np.count_nonzero(a & b))


def _is_double(overlap: Array, area: int, other: Array, config: DetectConfig) -> bool:
    """Compare a mask of `area` pixels with kept ones by the pixels it shares with each."""
    iou = overlap / (area + other - overlap)
    iomin = overlap / np.minimum(area, other)
    return bool(np.any((iou > config.duplicate_iou) | (iomin > config.duplicate_iomin)))
