"""A heat map as an image layer that lies on another one, cell on pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_dinomask.layers.images import MAP
from napari_dinomask.layers.place import lift, placement

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from dinomask.explain.seen import GridPlace
    from napari_dinomask.layers.images import PlaneView

    Array = npt.NDArray[Any]

HEAT_COLOURS = "magma"
_OPACITY = 0.65
_BRIGHTEST_PCT = 99.5
"""Percentile of the brightest colour: single tokens that draw all attention would
darken the rest."""


class HeatLayer:
    """One map after another on the same plane of an image layer.

    Parameters
    ----------
    viewer, layer, view : the plane
    name : of the layer
    """

    def __init__(self, viewer: ViewerModel, layer: ImageLayer, view: PlaneView, name: str) -> None:
        self._viewer = viewer
        self._image = layer
        self._view = view
        self._name = name
        self.heat: ImageLayer | None = None

    @property
    def is_open(self) -> bool:
        """Whether the layer is there."""
        return self.heat is not None and self.heat in self._viewer.layers

    def show(self, values_yx: Array, place: GridPlace, brightest: float | None = None) -> None:
        """Show a map where it lies.

        Parameters
        ----------
        values_yx : shape (h, w), at least 0
        place : of its cells in image pixels
        brightest : value of the brightest colour; None takes the map's own
        """
        displayed = self._view.displayed
        index = np.array(self._view.index[: self._image.ndim], float)
        # a pixel's middle has whole coordinates in napari, and so has a cell's
        index[list(displayed)] = np.add(place.origin_yx_px, np.multiply(place.cell_yx_px, 0.5))
        index[list(displayed)] -= 0.5
        where = placement(self._image, index, displayed)
        scale = np.array(where["scale"])
        scale[list(displayed)] *= place.cell_yx_px
        where["scale"] = scale
        data = lift(np.asarray(values_yx, np.float32), self._image.ndim, displayed)
        if brightest is None:
            brightest = float(np.percentile(values_yx, _BRIGHTEST_PCT)) or float(values_yx.max())
        limits = (0.0, max(brightest, 1e-6))
        if self.heat is None or self.heat not in self._viewer.layers:
            active = self._viewer.layers.selection.active
            self.heat = self._viewer.add_image(
                data,
                name=self._name,
                colormap=HEAT_COLOURS,
                opacity=_OPACITY,
                contrast_limits=limits,
                metadata={MAP: True},
                **where,
            )
            # the user goes on clicking the image
            self._viewer.layers.selection.active = active
            return
        heat = self.heat
        if tuple(heat.contrast_limits) != limits:
            heat.contrast_limits_range = limits
            heat.contrast_limits = limits
        # each of these draws the layer anew
        for name in ("translate", "scale"):
            if not np.allclose(getattr(heat, name), where[name]):
                setattr(heat, name, where[name])
        heat.data = data

    def remove(self) -> None:
        """Take it away, unless the user did."""
        if self.heat is not None and self.heat in self._viewer.layers:
            self._viewer.layers.remove(self.heat)
        self.heat = None
