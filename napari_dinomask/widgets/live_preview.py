"""Show what a run finds while it runs, without holding up the window."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_dinomask.layers import PreviewLayer
from napari_dinomask.sending import window_may_be_gone

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from dinomask.tiles.preview import Preview
    from napari_dinomask.layers import PlaneView

WORTH_S = 2.0
"""Runs that take less longer are not worth a layer that comes and goes."""

_SHORTEST_MS = 200
_IDLE_SHARE = 5
"""Pause between two refreshes, in times that one takes: the window stays live."""


class LivePreview(QObject):
    """Keeps a preview layer in step with a run.

    Parameters
    ----------
    viewer, layer, view : what the run works on
    """

    def __init__(self, viewer: ViewerModel, layer: Image, view: PlaneView) -> None:
        super().__init__()
        self._viewer, self._layer, self._view = viewer, layer, view
        self.shown: PreviewLayer | None = None
        self._left = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SHORTEST_MS)
        self._timer.timeout.connect(self._refresh)

    def show(self, preview: Preview, left_s: float | None) -> None:
        """Show what was drawn, at once or a little later.

        Parameters
        ----------
        preview : of the run
        left_s : how long the run will take; None where unknown
        """
        if self._left:
            return
        if self.shown is None:
            is_worth = left_s is not None and left_s >= WORTH_S
            if is_worth and self._layer in self._viewer.layers:
                self.shown = PreviewLayer(self._viewer, self._layer, self._view, preview)
        elif not self._timer.isActive():
            self._timer.start()

    def leave(self) -> None:
        """Take the layer away."""
        self._left = True
        with window_may_be_gone():
            self._timer.stop()
        if self.shown is not None:
            self.shown.remove()

    def _refresh(self) -> None:
        if self.shown is not None:
            started = time.perf_counter()
            self.shown.refresh()
            took_ms = 1000 * (time.perf_counter() - started)
            self._timer.setInterval(max(_SHORTEST_MS, round(_IDLE_SHARE * took_ms)))
