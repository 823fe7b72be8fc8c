"""Colours of tokens as an image layer that lies on another one, cell on pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dinomask.layers.images import MAP
from napari_dinomask.layers.place import lift, placement

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_dinomask.layers.images import PlaneView

    Array = npt.NDArray[Any]
    Point = tuple[float, float]

FEATURES_SUFFIX = " · features"
BEFORE_SUFFIX = " · features before"


class TokenColourLayer:
    """Shows colours on the plane of an image layer; a cell of the colours is a token.

    Parameters
    ----------
    viewer, layer, view : the plane
    suffix : of the layer's name
    """

    def __init__(
        self, viewer: ViewerModel, layer: ImageLayer, view: PlaneView, suffix: str
    ) -> None:
        self._viewer = viewer
        self._image = layer
        self._view = view
        self._suffix = suffix
        self.layer: ImageLayer | None = None

    def show(self, rgb_yxc: Array, origin_yx_px: Point, cell_yx_px: Point) -> None:
        """Show colours in the place of those before.

        Parameters
        ----------
        rgb_yxc : shape (h, w, 3), uint8
        origin_yx_px : corner of the first cell, in image pixels
        cell_yx_px : height and width of a cell, which is square
        """
        self.remove()
        ndim, displayed = self._image.ndim, self._view.displayed
        index = np.array(self._view.index[:ndim], float)
        # a pixel's middle has whole coordinates in napari, and so has a cell's
        index[list(displayed)] = np.add(origin_yx_px, np.multiply(cell_yx_px, 0.5)) - 0.5
        channels = [lift(rgb_yxc[..., c], ndim, displayed) for c in range(3)]
        active = self._viewer.layers.selection.active
        self.layer = self._viewer.add_image(
            np.stack(channels, axis=-1),
            rgb=True,
            name=self._image.name + self._suffix,
            metadata={MAP: True},
            **placement(self._image, index, displayed, cell_yx_px[0]),
        )
        # labels go on lying above it
        layers = self._viewer.layers
        layers.move(layers.index(self.layer), layers.index(self._image) + 1)
        layers.selection.active = active

    def set_visible(self, wanted: bool) -> None:
        """Show or hide it."""
        if self.layer is not None and self.layer in self._viewer.layers:
            self.layer.visible = wanted

    def remove(self) -> None:
        """Take it away, unless the user did."""
        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        self.layer = None
