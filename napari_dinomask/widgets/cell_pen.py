"""Measure one cell by drawing round it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from dinomask.errors import AxesError
from napari_dinomask.background import Background
from napari_dinomask.layers import (
    drawn_diameter_px,
    prepare_drawing,
    start_drawing,
    stop_drawing,
    view_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Image, Shapes

    from dinomask.errors import DinomaskError


class CellPen(QObject):
    """A pen for one shape on an image layer.

    Parameters
    ----------
    viewer : where to draw
    choose_layer : returns the layer whose pixels count; None if there is none
    """

    drawn = Signal(float)
    """The diameter of the cell that was drawn, in pixels of the image layer."""

    def __init__(self, viewer: ViewerModel, choose_layer: Callable[[], Image | None]) -> None:
        super().__init__()
        self._viewer = viewer
        self._choose_layer = choose_layer
        self._shapes: Shapes | None = None
        self._is_wanted = False
        self.background = Background("dinomask-pen")

    def set_in_hand(self, wanted: bool) -> None:
        """Give the user the pen as soon as there is one, or take it back."""
        self._is_wanted = wanted
        if wanted:
            self.background.run(prepare_drawing, self._take, _cannot_fail)
        elif self._shapes is not None:
            self._shapes.events.data.disconnect(self._on_drawn)
            stop_drawing(self._viewer, self._shapes, self._choose_layer())
            self._shapes = None

    def leave(self) -> None:
        """Put the pen away for good."""
        self.set_in_hand(False)
        self.background.close()

    def _take(self, _: None) -> None:
        layer = self._choose_layer()
        if self._is_wanted and layer is not None and self._shapes is None:
            self._shapes = start_drawing(self._viewer, layer)
            self._shapes.events.data.connect(self._on_drawn)

    def _on_drawn(self, event: Any) -> None:
        layer = self._choose_layer()
        if layer is None or self._shapes is None or event.action not in ("added", "changed"):
            return
        try:
            view = view_of(layer, self._viewer.dims)
        except AxesError:
            # the panel says so as long as the plane is not on display
            return
        diameter_px = drawn_diameter_px(self._shapes, layer, view)
        if diameter_px is not None:
            self.drawn.emit(diameter_px)


def _cannot_fail(error: DinomaskError) -> None:
    raise error
