"""Planted scenes: instances whose label image is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.instances import Instances

if TYPE_CHECKING:
    from dinomask.instances import Array

MASK_PX = 28


def disk_mask() -> Array:
    """A disk that fills its box, with a soft edge: shape (28, 28), uint8."""
    axis = (np.arange(MASK_PX) + 0.5) / MASK_PX * 2 - 1
    radius = np.hypot(*np.meshgrid(axis, axis))
    return np.round(255 * np.clip(0.5 + 4 * (1 - radius), 0, 1)).astype(np.uint8)


def disks(centres_yx: Array, diameters_px: Array, scores: Array) -> Instances:
    """One disk a row; classes alternate between 0 and 1."""
    centres = np.asarray(centres_yx, np.float64).reshape(-1, 2)
    half = np.asarray(diameters_px, np.float64).reshape(-1, 1) / 2
    n = len(centres)
    return Instances(
        np.hstack([centres - half, centres + half]).astype(np.float32),
        np.asarray(scores, np.float32).reshape(n),
        (np.arange(n) % 2).astype(np.int32),
        np.repeat(disk_mask()[None], n, axis=0),
    )


def planted_disks(seed: int, shape_yx: tuple[int, int], diameter_px: float) -> Instances:
    """Disks on a jittered lattice that never touch, some cut by the image's edge."""
    rng = np.random.default_rng(seed)
    pitch = 1.5 * diameter_px
    lattice = [np.arange(rng.uniform(0, pitch), side, pitch) for side in shape_yx]
    centres = np.stack(np.meshgrid(*lattice, indexing="ij"), axis=-1).reshape(-1, 2)
    centres = centres + rng.uniform(-0.15, 0.15, centres.shape) * diameter_px
    centres = np.clip(centres, 0, np.array(shape_yx) - 1e-3)
    diameters = diameter_px * rng.uniform(0.8, 1.0, len(centres))
    return disks(centres, diameters, rng.uniform(0.3, 1.0, len(centres)))
