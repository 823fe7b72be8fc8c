"""Lines over the labels: the stroke in the making, and the reviewed regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dinomask.layers.place import placement

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Vectors

    from napari_dinomask.layers.corrected import CorrectedLayer

    Array = npt.NDArray[Any]
    Point = tuple[float, float]

PEN_COLOUR, REGION_COLOUR = "#ffd43b", "#51cf66"
REGION_SUFFIX, PEN_SUFFIX = " · reviewed", " · pen"
_WIDTH = 2.0
"""In pixels of the canvas, at the zoom at which it is drawn."""


class Lines:
    """A layer of lines in one colour, until it is closed.

    Adding and removing a layer takes napari a tenth of a second or two, new lines a
    hundredth; so the layer stays, though it may be empty.

    Parameters
    ----------
    viewer : where
    layer : on whose pixels
    suffix : of its name
    colour : of the lines
    """

    def __init__(
        self, viewer: ViewerModel, layer: CorrectedLayer, suffix: str, colour: str
    ) -> None:
        self._viewer = viewer
        self._layer = layer
        self._suffix = suffix
        self._colour = colour
        self._width = 0.0
        self.vectors: Vectors | None = None

    def open(self) -> None:
        """Add the layer, without lines."""
        labels = self._layer.labels
        active = self._viewer.layers.selection.active
        self._width = _WIDTH / self._px_on_canvas()
        self.vectors = self._viewer.add_vectors(
            np.zeros((0, 2, labels.ndim)),
            name=labels.name + self._suffix,
            edge_color=self._colour,
            edge_width=self._width,
            vector_style="line",
            **placement(labels, np.zeros(labels.ndim)),
        )
        self._viewer.layers.selection.active = active

    def show(self, paths_yx_px: Sequence[Sequence[Point]]) -> None:
        """Draw paths in place of the ones before; nothing if the user removed the layer."""
        plane, vectors = self._layer.plane, self.vectors
        if vectors is None or vectors not in self._viewer.layers or plane is None:
            return
        legs = [_legs(path) for path in paths_yx_px if len(path) > 1]
        if not legs:
            if len(vectors.data):
                vectors.data = np.zeros((0, 2, vectors.ndim))
            return
        vectors.data = self._lift(np.concatenate(legs), plane)
        width = _WIDTH / self._px_on_canvas()
        if not 0.7 < width / self._width < 1.4:
            vectors.edge_width = self._width = width

    def close(self) -> None:
        """Take the layer away."""
        vectors, self.vectors = self.vectors, None
        if vectors is not None and vectors in self._viewer.layers:
            active = self._viewer.layers.selection.active
            self._viewer.layers.remove(vectors)
            self._viewer.layers.selection.active = active if active is not vectors else None

    def _px_on_canvas(self) -> float:
        """Return how many canvas pixels a pixel of the labels takes."""
        scale = np.abs(np.array(self._layer.labels.scale))[list(self._layer.displayed)]
        return float(self._viewer.scene.camera.zoom * scale.min()) or 1.0

    def _lift(self, legs: Array, plane: tuple[int, ...]) -> Array:
        """Bring legs (N, 2, 2) into the axes of the layer, at the plane on display."""
        labels, displayed = self._layer.labels, list(self._layer.displayed)
        data = np.zeros((len(legs), 2, labels.ndim))
        data[:, :, displayed] = legs
        leading = [axis for axis in range(labels.ndim) if axis not in displayed]
        data[:, 0, leading] = plane
        # a pixel's middle has whole coordinates in napari
        data[:, 0, displayed] -= 0.5
        return data


def _legs(path: Sequence[Point]) -> Array:
    """Return starts and projections of a path's legs, shape (N, 2, 2)."""
    points = np.array(path, np.float64)
    return np.stack([points[:-1], np.diff(points, axis=0)], axis=1)
