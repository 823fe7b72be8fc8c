"""The curves of a training, drawn while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_dinomask.widgets.look import ACCENT, hint, tell

if TYPE_CHECKING:
    from napari_dinomask.teaching import Curves

_HEIGHT_PX = 170
_FAINT = (128, 128, 128, 110)
_GREEN = "#40c057"
_NO_PLOTS = "To see the curves, install pyqtgraph: pip install 'napari-dinomask[app]'"


class CurvesBox(QWidget):
    """Loss, falling, and quality on held-out objects, rising; hidden until there is something."""

    def __init__(self) -> None:
        super().__init__()
        self.note = hint()
        self.loss_plot: Any = None
        self.held_out_plot: Any = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 2, 0, 2)
        column.setSpacing(2)
        column.addWidget(self.note)
        try:
            import pyqtgraph
        except ImportError:
            tell(self.note, _NO_PLOTS)
        else:
            self._add_plots(pyqtgraph, column)
        self.hide()

    def _add_plots(self, pyqtgraph: Any, column: QVBoxLayout) -> None:
        self.loss_plot = self._plot(pyqtgraph, "loss")
        self.held_out_plot = self._plot(pyqtgraph, "held-out AP")
        self.held_out_plot.setLabel("bottom", "step")
        self.held_out_plot.setXLink(self.loss_plot)
        pen = pyqtgraph.mkPen
        self._losses = self.loss_plot.plot(pen=pen(_FAINT))
        self._smooth = self.loss_plot.plot(pen=pen(ACCENT, width=2))
        self._held_out = self.held_out_plot.plot(
            pen=pen(_GREEN, width=2), symbol="o", symbolSize=7, symbolBrush=_GREEN, symbolPen=None
        )
        column.addWidget(self.loss_plot)
        column.addWidget(self.held_out_plot)

    @staticmethod
    def _plot(pyqtgraph: Any, title: str) -> Any:
        plot = pyqtgraph.PlotWidget(background=None)
        plot.setLabel("left", title)
        plot.setFixedHeight(_HEIGHT_PX)
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.setMouseEnabled(x=False, y=False)
        plot.showGrid(x=True, y=True, alpha=0.15)
        # one width for both, so that steps lie below each other
        plot.getAxis("left").setWidth(46)
        for side in ("left", "bottom"):
            plot.getAxis(side).enableAutoSIPrefix(False)
        return plot

    def show_curves(self, curves: Curves) -> None:
        """Draw the curves as they are now."""
        self.setVisible(bool(curves.steps or curves.checks))
        if self.loss_plot is None:
            return
        self._losses.setData(curves.steps, curves.losses)
        self._smooth.setData(curves.steps, curves.smooth)
        self._held_out.setData(curves.checks, curves.held_out)
