"""The map of the cells with its colours and legend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRect, QSignalBlocker, Qt, Signal
from qtpy.QtGui import QColor, QLinearGradient, QPainter
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_dinomask.colouring import plain
from napari_dinomask.objects import NO_COLUMN, axis_titles
from napari_dinomask.objects_wording import say_chosen, say_legend, say_number
from napari_dinomask.selection import Cloud
from napari_dinomask.widgets.look import SMALL_BUTTON, hint, tell
from napari_dinomask.widgets.scatter import HINT, ScatterPlot

if TYPE_CHECKING:
    from qtpy.QtGui import QPaintEvent

    from napari_dinomask.colouring import Colouring
    from napari_dinomask.objects import Objects
    from napari_dinomask.selection import Selection

_BAR_PX = 10


class PointsBox(QWidget):
    """Shows cells as points, coloured by a column of their table.

    Parameters
    ----------
    selection : shared with the image
    """

    pointed = Signal(object)
    """The key of a cell that was clicked at."""

    coloured = Signal()
    """Colours are others, or the image shall have them or no more."""

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        self.objects: Objects | None = None
        self.plot = ScatterPlot(selection)
        self.colour_by = QComboBox()
        self.colour_by.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.colour_by.setToolTip("What the colours of the points say")
        self.in_image = QCheckBox("in the image")
        self.in_image.setToolTip("Fill the cells in the image with the colours of their points")
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setToolTip("Click a class to choose its cells")
        self.bar = _ColourBar()
        self.chosen = QLabel()
        # its text grows and shrinks, and the panel must not
        self.chosen.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.all = QPushButton("All")
        self.none = QPushButton("None")
        self.invert = QPushButton("Invert")
        self._arrange()
        self._connect()
        self._show_chosen()

    def _arrange(self) -> None:
        self.plot.setFixedHeight(330)
        colours = QHBoxLayout()
        colours.addWidget(QLabel("Colour by"))
        colours.addWidget(self.colour_by, 1)
        colours.addWidget(self.in_image)
        chosen = QHBoxLayout()
        chosen.setSpacing(4)
        chosen.addWidget(self.chosen, 1)
        for button in (self.all, self.none, self.invert):
            button.setStyleSheet(SMALL_BUTTON)
            chosen.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(colours)
        column.addWidget(self.plot)
        column.addWidget(self.legend)
        column.addWidget(self.bar)
        column.addLayout(chosen)
        help_text = hint()
        tell(help_text, HINT)
        column.addWidget(help_text)

    def _connect(self) -> None:
        self.selection.listen(self._show_chosen)
        self.plot.pointed.connect(self.pointed)
        self.colour_by.currentIndexChanged.connect(self.show_colours)
        self.in_image.toggled.connect(lambda _: self.coloured.emit())
        self.legend.linkActivated.connect(self._on_legend)
        self.all.clicked.connect(lambda: self.selection.choose(self.plot.cloud.keys))
        self.none.clicked.connect(self.selection.clear)
        self.invert.clicked.connect(self._invert)

    @property
    def column(self) -> str:
        """The column that colours come from."""
        return str(self.colour_by.currentData() or NO_COLUMN)

    @property
    def colouring(self) -> Colouring:
        """The colours on display."""
        return self.plot.colouring

    def show_objects(self, objects: Objects | None) -> None:
        """Show other cells, or the same ones with other positions."""
        self.objects = objects
        self.show_columns()
        if objects is None:
            self.colour_by.clear()
        if objects is None or objects.map is None:
            empty = Cloud(self.selection.keys[:0], self.plot.cloud.points_xy[:0])
            self.plot.show_points(empty, plain(0))
        else:
            colouring = objects.colouring(self.column)
            self.plot.show_points(objects.cloud(), colouring, axis_titles(objects.map))
        self._show_legend()
        self._show_chosen()
        self.coloured.emit()

    def show_columns(self, wanted: str | None = None) -> None:
        """List what can be coloured by, and choose one of them."""
        is_first = not self.colour_by.count()
        before = self.column if wanted is None else wanted
        names = [] if self.objects is None else self.objects.columns
        with QSignalBlocker(self.colour_by):
            self.colour_by.clear()
            for name in names:
                self.colour_by.addItem(name.replace("_", " "), name)
            self.colour_by.addItem("nothing", NO_COLUMN)
            index = 0 if is_first and wanted is None else self.colour_by.findData(before)
            self.colour_by.setCurrentIndex(max(index, 0))
        if wanted is not None:
            self.show_colours()

    def show_colours(self, _: int = 0) -> None:
        """Colour the points by the chosen column."""
        if self.objects is None:
            return
        self.plot.show_colours(self.objects.colouring(self.column))
        self._show_legend()
        self.coloured.emit()

    def _show_legend(self) -> None:
        colouring = self.colouring
        ink = self.palette().text().color().name()
        tell(self.legend, say_legend(colouring, ink) if colouring.title else "")
        self.bar.show_colouring(colouring)

    def _show_chosen(self) -> None:
        n = len(self.plot.cloud)
        n_chosen = int(self.selection.mask(self.plot.cloud.keys).sum())
        self.chosen.setText(say_chosen(n_chosen, n))
        self.none.setEnabled(bool(n_chosen))
        for button in (self.all, self.invert):
            button.setEnabled(bool(n))

    def _on_legend(self, code: str) -> None:
        rows = self.colouring.rows_of(int(code))
        self.selection.choose(self.plot.cloud.keys[rows])

    def _invert(self) -> None:
        keys = self.plot.cloud.keys
        self.selection.choose(keys[~self.selection.mask(keys)])


class _ColourBar(QWidget):
    """The scale of a column of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self._colouring = plain(0)
        self.setFixedHeight(_BAR_PX + 18)

    def show_colouring(self, colouring: Colouring) -> None:
        """Show the scale; nothing for classes."""
        self._colouring = colouring
        self.setVisible(colouring.limits is not None)
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paint it."""
        limits = self._colouring.limits
        if limits is None:
            return
        painter = QPainter(self)
        colours = self._colouring.colours[:-1]
        gradient = QLinearGradient(0, 0, self.width(), 0)
        for i, colour in enumerate(colours):
            gradient.setColorAt(i / (len(colours) - 1), QColor(*colour))
        painter.fillRect(QRect(0, 2, self.width(), _BAR_PX), gradient)
        painter.setPen(self.palette().text().color())
        below = QRect(0, _BAR_PX + 2, self.width(), 16)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, say_number(limits[0]))
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, say_number(limits[1]))
        title = self._colouring.title.replace("_", " ")
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, title)
        painter.end()
