"""A plot of objects as points: coloured, caught with a lasso, clicked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QPainterPath
from qtpy.QtWidgets import QGraphicsPathItem

from napari_dinomask.colouring import plain
from napari_dinomask.selection import Cloud

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_dinomask.colouring import Colouring
    from napari_dinomask.selection import How, Selection

CHOSEN_COLOUR = "#ffd43b"
"""Rings of chosen points; chosen cells have outlines of the same colour."""

HINT = (
    "Drag: lasso · Shift adds, Ctrl or Alt removes · click: one cell · right drag moves · "
    "wheel zooms · double-click shows all"
)
_STEP_PX = 3.0
"""Corners of a lasso lie so many pixels apart at least."""

_REACH_PX = 8.0
_DIMMED = 0.35
_SIZES_PX = ((300, 11), (2_000, 8), (10_000, 6), (200_000, 4))
"""Diameter of a point for up to so many."""


class LassoViewBox(pg.ViewBox):
    """A view of a plot whose left button draws a lasso; the right one moves."""

    lassoed = Signal(object, object)
    """Corners, shape (M, 2), in data coordinates; and the modifiers that were held."""

    clicked = Signal(object, object)
    """A point (x, y) in data coordinates; and the modifiers that were held."""

    def __init__(self) -> None:
        super().__init__(enableMenu=False)
        self._corners: list[tuple[float, float]] = []
        self._path = QGraphicsPathItem()
        self._path.setPen(pg.mkPen(CHOSEN_COLOUR, width=1.5))
        self._path.setBrush(pg.mkBrush(255, 212, 59, 36))
        self._path.setZValue(1e6)
        self.addItem(self._path, ignoreBounds=True)

    def mouseDragEvent(self, ev: Any, axis: int | None = None) -> None:
        """Draw a lasso with the left button; move the view with any other."""
        if ev.button() != Qt.MouseButton.LeftButton:
            self._move(ev, axis)
            return
        ev.accept()
        if ev.isStart():
            self._corners = []
            self._take(ev.buttonDownPos())
        self._take(ev.pos(), is_last=ev.isFinish())
        if ev.isFinish():
            corners, self._corners = np.array(self._corners), []
            self._path.setPath(QPainterPath())
            self.lassoed.emit(corners, ev.modifiers())
        else:
            self._draw()

    def mouseClickEvent(self, ev: Any) -> None:
        """Choose what is clicked at; two clicks show all."""
        if ev.button() != Qt.MouseButton.LeftButton:
            return
        ev.accept()
        if ev.double():
            self.autoRange()
            return
        at = self.mapToView(ev.pos())
        self.clicked.emit((at.x(), at.y()), ev.modifiers())

    def wheelEvent(self, ev: Any, axis: int | None = None) -> None:
        """Zoom, both axes alike."""
        super().wheelEvent(ev, None)

    def _move(self, ev: Any, axis: int | None) -> None:
        ev.accept()
        shift = self.mapToView(ev.lastPos()) - self.mapToView(ev.pos())
        self._resetTarget()
        self.translateBy(x=shift.x(), y=shift.y())

    def _take(self, at: Any, is_last: bool = False) -> None:
        point = self.mapToView(at)
        if self._corners and not is_last:
            size_x, size_y = self.viewPixelSize()
            x, y = self._corners[-1]
            if np.hypot((point.x() - x) / size_x, (point.y() - y) / size_y) < _STEP_PX:
                return
        self._corners.append((point.x(), point.y()))

    def _draw(self) -> None:
        path = QPainterPath()
        path.moveTo(*self._corners[0])
        for corner in self._corners[1:]:
            path.lineTo(*corner)
        path.closeSubpath()
        self._path.setPath(path)


class _Points(pg.ScatterPlotItem):
    """Points that leave clicks to the view, which knows all of them."""

    def mouseClickEvent(self, ev: Any) -> None:
        """Let the view have it."""
        ev.ignore()


class ScatterPlot(pg.PlotWidget):
    """Points of objects, linked with what is chosen.

    Parameters
    ----------
    selection : changed by lasso and click, and shown as rings

    Attributes
    ----------
    cloud : the points on display
    colouring : their colours
    """

    pointed = Signal(object)
    """The key of the object that was clicked at."""

    def __init__(self, selection: Selection) -> None:
        self.view = LassoViewBox()
        super().__init__(viewBox=self.view, background=None)
        self.selection = selection
        self.cloud = Cloud(np.empty(0, np.int64), np.empty((0, 2)))
        self.colouring = plain(0)
        self._layers: list[_Points] = []
        self._rings = _Points(pxMode=True, brush=None)
        self._rings.setPen(pg.mkPen(CHOSEN_COLOUR, width=1.5))
        self._rings.setZValue(1e5)
        self.addItem(self._rings, ignoreBounds=True)
        self.hideButtons()
        self.setMinimumHeight(220)
        for side in ("left", "bottom"):
            axis = self.getAxis(side)
            axis.enableAutoSIPrefix(False)
            axis.setStyle(showValues=False, tickLength=0)
        self.view.lassoed.connect(self._on_lasso)
        self.view.clicked.connect(self._on_click)
        self.setToolTip(HINT)
        selection.listen(self.show_chosen)

    def show_points(
        self, cloud: Cloud, colouring: Colouring, axes: Sequence[str] = ("", "")
    ) -> None:
        """Show other points, and all of them.

        Parameters
        ----------
        cloud : the points
        colouring : a colour for each
        axes : what lies along x and y
        """
        self.cloud = cloud
        for side, text in zip(("bottom", "left"), axes, strict=True):
            self.setLabel(side, text)
        self.show_colours(colouring)
        self.view.autoRange(padding=0.08)

    def show_colours(self, colouring: Colouring) -> None:
        """Colour the points otherwise."""
        self.colouring = colouring
        for item in self._layers:
            self.removeItem(item)
        self._layers = []
        size = _size_px(len(self.cloud))
        sizes = np.bincount(colouring.codes, minlength=len(colouring.colours))
        # the rarest on top, or they could not be seen
        for code in sorted(np.flatnonzero(sizes).tolist(), key=lambda code: -sizes[code]):
            x, y = self.cloud.points_xy[colouring.rows_of(code)].T
            item = _Points(pxMode=True, pen=None, size=size)
            item.setBrush(pg.mkBrush(*colouring.colours[code]))
            item.setData(x, y)
            self.addItem(item)
            self._layers.append(item)
        self.show_chosen()

    def show_chosen(self) -> None:
        """Ring the chosen points, and dim the others."""
        rows = np.flatnonzero(self.selection.mask(self.cloud.keys))
        x, y = self.cloud.points_xy[rows].T
        self._rings.setData(x, y, size=_size_px(len(self.cloud)) + 2)
        for item in self._layers:
            item.setOpacity(_DIMMED if len(rows) else 1.0)

    def _on_lasso(self, corners_xy: Any, modifiers: Any) -> None:
        self.selection.choose(self.cloud.inside(corners_xy), _how(modifiers))

    def _on_click(self, point_xy: tuple[float, float], modifiers: Any) -> None:
        size_x, size_y = self.view.viewPixelSize()
        key = self.cloud.nearest(point_xy, (_REACH_PX * size_x, _REACH_PX * size_y))
        how = _how(modifiers)
        if key is None:
            if how == "replace":
                self.selection.clear()
            return
        self.selection.choose([key], how)
        if how == "replace":
            self.pointed.emit(key)


def _how(modifiers: Any) -> How:
    """Return what a gesture does, from the keys that are held."""
    if modifiers & (Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.AltModifier):
        return "remove"
    return "add" if modifiers & Qt.KeyboardModifier.ShiftModifier else "replace"


def _size_px(n: int) -> int:
    return next((size for limit, size in _SIZES_PX if n <= limit), _SIZES_PX[-1][1])
