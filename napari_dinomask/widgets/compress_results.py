"""What came of a comparison: a table, a plot, and what to do with a variant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QFont
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from dinomask.compress.bench.names import spread_names
from napari_dinomask.compressing import TITLES, explain_row, table_row
from napari_dinomask.widgets.look import ACCENT, PLAIN_BUTTON, caption, hint, tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    Row = Mapping[str, Any]

_ROW_PX = 24
_PLOT_PX = 210
_FAINT = "#868e96"
_NAME_LENGTH = 24
_NO_PLOTS = "To see the plot, install pyqtgraph: pip install 'napari-dinomask[app]'"
AXES = {"latency": "time an image, original = 1", "size": "size on disk, MB"}


class ResultsBox(QWidget):
    """Table and Pareto plot of variants; hidden until there are any."""

    compare = Signal(object, object)
    """Two rows whose segmentations are to be laid over each other."""

    use = Signal(object)
    """The row of a variant that is to segment from now on."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Row] = []
        self._recommended: str | None = None
        self.table = QTableWidget(0, len(TITLES))
        self.axis = QComboBox()
        self.plot_note = hint()
        self.plot: Any = None
        self._names: list[Any] = []
        self.first, self.second = QComboBox(), QComboBox()
        self.compare_button = QPushButton("Compare on screen")
        self.use_button = QPushButton("Use this model")
        self._arrange()
        self._connect()
        self.hide()

    def _arrange(self) -> None:
        self.table.setHorizontalHeaderLabels(list(TITLES))
        self.table.verticalHeader().hide()
        self.table.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for key, text in AXES.items():
            self.axis.addItem(text, key)
        for button in (self.compare_button, self.use_button):
            button.setStyleSheet(PLAIN_BUTTON)
        self.use_button.setToolTip("Choose the selected variant in the Segment panel")
        self.compare_button.setToolTip(
            "Segment what you see with both; every object that differs is listed, to jump to"
        )
        row = QHBoxLayout()
        for widget, share in ((self.first, 1), (QLabel("|"), 0), (self.second, 1)):
            row.addWidget(widget, share)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 6, 0, 0)
        column.setSpacing(4)
        column.addWidget(caption("Variants"))
        column.addWidget(self.table)
        column.addWidget(self.use_button)
        column.addWidget(self.axis)
        self._add_plot(column)
        column.addLayout(row)
        column.addWidget(self.compare_button)

    def _add_plot(self, column: QVBoxLayout) -> None:
        try:
            import pyqtgraph
        except ImportError:
            tell(self.plot_note, _NO_PLOTS)
            column.addWidget(self.plot_note)
            return
        self.plot = pyqtgraph.PlotWidget(background=None)
        self.plot.setFixedHeight(_PLOT_PX)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.showGrid(x=True, y=True, alpha=0.15)
        for side in ("left", "bottom"):
            self.plot.getAxis(side).enableAutoSIPrefix(False)
        self.plot.getViewBox().sigResized.connect(self._place_names)
        column.addWidget(self.plot)

    def _connect(self) -> None:
        self.axis.currentIndexChanged.connect(lambda _: self._draw())
        self.table.itemSelectionChanged.connect(self._on_selected)
        self.compare_button.clicked.connect(self._on_compare)
        self.use_button.clicked.connect(self._on_use)

    @property
    def selected(self) -> Row | None:
        """The variant selected in the table."""
        index = self.table.currentRow()
        return self._rows[index] if 0 <= index < len(self._rows) else None

    def show_report(self, report: Mapping[str, Any]) -> None:
        """Show a report, with the recommended variant selected."""
        self._rows = list(report["variants"])
        self._recommended = report["recommended"]
        self.table.setRowCount(len(self._rows))
        for i, row in enumerate(self._rows):
            self._fill_row(i, row)
        height = self.table.horizontalHeader().sizeHint().height() + 4
        self.table.setFixedHeight(height + _ROW_PX * len(self._rows))
        names = [row["name"] for row in self._rows]
        for combo in (self.first, self.second):
            combo.clear()
            combo.addItems(names)
        best = names.index(self._recommended) if self._recommended in names else len(names) - 1
        self.first.setCurrentIndex(0)
        self.second.setCurrentIndex(best)
        self.show()
        self.table.selectRow(best)
        self._draw()

    def _fill_row(self, i: int, row: Row) -> None:
        self.table.setRowHeight(i, _ROW_PX)
        for column, text in enumerate(table_row(row)):
            item = QTableWidgetItem(text)
            item.setToolTip(explain_row(row))
            if column:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            if row["name"] == self._recommended:
                font = QFont(item.font())
                font.setBold(True)
                item.setFont(font)
            elif row["objections"]:
                item.setForeground(QColor(_FAINT))
            self.table.setItem(i, column, item)

    def _draw(self) -> None:
        """Draw what variants cost and how good they are; those nothing beats are joined."""
        if self.plot is None or not self._rows:
            return
        import pyqtgraph

        axis = self.axis.currentData()
        points = [(_cost(row, axis), row["quality"]["ap50"]) for row in self._rows]
        front = sorted(p for p, row in zip(points, self._rows, strict=True) if row["pareto"][axis])
        self.plot.clear()
        self._names = []
        self.plot.setLabel("left", "AP")
        self.plot.setLabel("bottom", AXES[axis])
        self.plot.plot(
            *zip(*front, strict=True), pen=pyqtgraph.mkPen(_FAINT, style=Qt.PenStyle.DashLine)
        )
        for (x, y), row in zip(points, self._rows, strict=True):
            is_best = row["name"] == self._recommended
            colour = ACCENT if row["pareto"][axis] else _FAINT
            self.plot.plot(
                [x],
                [y],
                pen=None,
                symbol="star" if is_best else "o",
                symbolSize=16 if is_best else 9,
                symbolBrush=colour,
                symbolPen=None,
            )
            label = pyqtgraph.TextItem(_shortened(row["name"]), color=colour)
            label.setPos(x, y)
            self.plot.addItem(label, ignoreBounds=True)
            self._names.append(label)
        highest = max(x for x, _ in points)
        low, high = min(y for _, y in points), max(y for _, y in points)
        room = max(high - low, 0.02) * 0.3
        self.plot.setRange(xRange=(0, 1.2 * highest), yRange=(low - room, high + room), padding=0)
        self._place_names()

    def _place_names(self) -> None:
        """Put each name on the side of its point where it covers least of the others."""
        if not self._names:
            return
        view = self.plot.getViewBox()
        (x0, x1), (y0, y1) = view.viewRange()
        shape_xy = (view.width(), view.height())
        share = [
            ((n.pos().x() - x0) / (x1 - x0), (y1 - n.pos().y()) / (y1 - y0)) for n in self._names
        ]
        extents = [name.textItem.boundingRect() for name in self._names]
        sizes = np.array([(extent.width(), extent.height()) for extent in extents])
        anchors = spread_names(np.array(share) * shape_xy, sizes, shape_xy)
        for name, anchor in zip(self._names, anchors, strict=True):
            name.setAnchor(anchor)

    def _on_selected(self) -> None:
        self.use_button.setEnabled(self.selected is not None)

    def _on_compare(self) -> None:
        first, second = (self._rows[c.currentIndex()] for c in (self.first, self.second))
        self.compare.emit(first, second)

    def _on_use(self) -> None:
        if self.selected is not None:
            self.use.emit(self.selected)


def _cost(row: Row, axis: str) -> float:
    return 1 / float(row["speedup"]) if axis == "latency" else float(row["size_mb"])


def _shortened(name: str) -> str:
    """Return a name that leaves room for others in a narrow plot; the table has it whole."""
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"
