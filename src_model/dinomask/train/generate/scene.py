"""A scene to be drawn: its objects, how deep each pixel lies in them, and what they hold."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dinomask.train.generate.optics import blur, smooth_noise

if TYPE_CHECKING:
    Rng = np.random.Generator

Array = npt.NDArray[Any]


class Scene:
    """Objects in the plane, with the measures that appearances are built from.

    Attributes
    ----------
    rng : the only source of chance
    labels_yx : shape (Y, X), int32; 0 background, 1..N
    diameter_px : typical diameter of the objects
    depth_px : distance to the outline inside objects, 0 outside
    """

    def __init__(self, rng: Rng, labels_yx: Array, diameter_px: float) -> None:
        self.rng = rng
        self.labels_yx = labels_yx
        self.diameter_px = diameter_px
        self.inside = labels_yx > 0
        self.n_objects = int(labels_yx.max(initial=0))
        edge = np.zeros(labels_yx.shape, bool)
        for axis in range(2):
            differs = np.diff(labels_yx, axis=axis) != 0
            _mark(edge, differs, axis)
        depth = ndimage.distance_transform_edt(~edge).astype(np.float32) + 0.5
        self.edge = edge
        self.depth_px: Array = np.where(self.inside, depth, 0).astype(np.float32)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.labels_yx.shape[0], self.labels_yx.shape[1]

    @cached_property
    def peaks(self) -> tuple[Array, Array]:
        """Flat index and depth in pixels of each object's deepest pixel, shape (N + 1,)."""
        at = np.flatnonzero(self.inside)
        depth = self.depth_px.ravel()[at]
        order = np.argsort(depth, kind="stable")
        index = np.zeros(self.n_objects + 1, np.int64)
        index[self.labels_yx.ravel()[at[order]]] = at[order]
        return index, self.depth_px.ravel()[index]

    @cached_property
    def outside_px(self) -> Array:
        """Distance to the nearest object, 0 inside."""
        if not self.n_objects:
            return np.full(self.shape_yx, 1e3, np.float32)
        distance: Array = ndimage.distance_transform_edt(~self.inside).astype(np.float32)
        return distance

    @cached_property
    def inner(self) -> Array:
        """Depth relative to the object's deepest pixel: 0 outside, 1 in the middle."""
        deepest = np.maximum(self.peaks[1], 1.0)
        deepest[0] = 1.0
        relative: Array = self.depth_px / deepest[self.labels_yx]
        return relative

    @property
    def dome(self) -> Array:
        """Thickness of a rounded body: 0 at the outline, 1 in the middle."""
        rounded: Array = np.sqrt(np.clip(1 - (1 - self.inner) ** 2, 0, 1)) * self.inside
        return rounded

    def slab(self, edge_px: float) -> Array:
        """Thickness of a flat body that rises over `edge_px` from its outline to 1."""
        flat: Array = np.clip(self.depth_px / max(edge_px, 0.5), 0, 1)
        return flat

    def paint(self, values: Array) -> Array:
        """Give each object one of the N values; 0 outside."""
        table = np.concatenate([[0.0], values]).astype(np.float32)
        painted: Array = table[self.labels_yx]
        return painted

    def vary(self, log_sigma: float) -> Array:
        """Paint a random factor for each object, log-normal around 1."""
        drawn = np.clip(self.rng.normal(0, log_sigma, self.n_objects), -1.5, 1.2)
        return self.paint(np.exp(drawn))

    def noise(self, grain: float) -> Array:
        """Return noise of standard deviation 1 with a grain relative to the objects."""
        return smooth_noise(self.rng, self.shape_yx, max(0.6, grain * self.diameter_px))

    def nuclei(self, size: float) -> Array:
        """Return the cells' own nuclei, 0 to 1, soft-edged.

        Parameters
        ----------
        size : radius relative to the cell's largest inscribed disc
        """
        rng, shape = self.rng, self.shape_yx
        nuclei = np.zeros(shape, np.float32)
        rows, cols = np.unravel_index(self.peaks[0][1:], shape)
        radii = self.peaks[1][1:] * size * rng.uniform(0.85, 1.1, self.n_objects)
        for i, (row, col, radius) in enumerate(zip(rows, cols, radii, strict=True), start=1):
            y, x = (row, col) + rng.normal(0, 0.12, 2) * radius
            stretch, angle = math.exp(rng.uniform(-0.25, 0.25)), rng.uniform(0, math.pi)
            reach = math.ceil(radius * 1.4) + 1
            box = tuple(
                slice(max(int(c) - reach, 0), min(int(c) + reach + 1, n))
                for c, n in zip((y, x), shape, strict=True)
            )
            dy = np.arange(box[0].start, box[0].stop)[:, None] - y
            dx = np.arange(box[1].start, box[1].stop)[None] - x
            along = (dx * math.cos(angle) + dy * math.sin(angle)) / stretch
            across = (dy * math.cos(angle) - dx * math.sin(angle)) * stretch
            soft = np.clip((radius - np.hypot(along, across)) / 1.5 + 0.5, 0, 1)
            own = self.labels_yx[box] == i
            nuclei[box] = np.maximum(nuclei[box], soft * own)
        return blur(nuclei, 0.5)


def _mark(edge: Array, differs: Array, axis: int) -> None:
    before = (slice(None), slice(None, -1)) if axis else (slice(None, -1), slice(None))
    after = (slice(None), slice(1, None)) if axis else (slice(1, None), slice(None))
    edge[before] |= differs
    edge[after] |= differs
