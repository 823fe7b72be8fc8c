"""Removal of doubles by their masks, which boxes alone don't show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.instances import Array, Instances, paste_probability

if TYPE_CHECKING:
    from dinomask.config import DetectConfig


def drop_duplicates(found: Instances, shape_yx: tuple[int, int], config: DetectConfig) -> Instances:
    """Keep the better one of instances that show the same object.

    Instances are drawn in the order of their scores. One is dropped if, with
    an instance drawn before, its IoU is above `duplicate_iou`, or the overlap
    covers more than `duplicate_iomin` of the smaller of the two, or if its
    mask is empty.

    Parameters
    ----------
    found : best score first; boxes in pixels of the canvas
    shape_yx : size of the canvas (a tile, in model pixels)
    config : the two limits

    Returns
    -------
    the kept instances, in the same order
    """
    canvas_yx = np.zeros(shape_yx, np.int32)
    areas = np.zeros(len(found) + 1, np.int64)
    kept = []
    window = (0, 0, *shape_yx)
    for i in range(len(found)):
        probability, (y, x) = paste_probability(found.masks[i], found.boxes_yxyx_px[i], window)
        mask_yx = probability >= 0.5
        area = int(np.count_nonzero(mask_yx))
        if area == 0:
            continue
        here = canvas_yx[y : y + mask_yx.shape[0], x : x + mask_yx.shape[1]]
        if _is_double(here[mask_yx], area, areas, config):
            continue
        kept.append(i)
        areas[i + 1] = area
        here[mask_yx & (here == 0)] = i + 1
    return found.take(np.array(kept, np.int64))


def _is_double(covered: Array, area: int, areas: Array, config: DetectConfig) -> bool:
    """Compare a mask of `area` pixels with those that already hold its pixels."""
    owners, overlap = np.unique(covered[covered > 0], return_counts=True)
    other = areas[owners]
    iou = overlap / (area + other - overlap)
    iomin = overlap / np.minimum(area, other)
    return bool(np.any((iou > config.duplicate_iou) | (iomin > config.duplicate_iomin)))
