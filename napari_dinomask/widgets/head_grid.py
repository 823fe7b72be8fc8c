"""Small pictures of what every head looks at; a click chooses the head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import ensure_colormap
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QGridLayout, QToolButton, QWidget

from napari_dinomask.explain_wording import say_head

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_dinomask.explaining import Shown

    Array = npt.NDArray[Any]

SIDE_PX = 84
COLUMNS = 3
_BRIGHTEST_PCT = 99.5


class HeadGrid(QWidget):
    """One button a head; hidden while there is nothing to show."""

    chosen = Signal(int)
    """A head."""

    def __init__(self) -> None:
        super().__init__()
        self.buttons: list[QToolButton] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)
        self.hide()

    def show_heads(self, shown: Shown | None) -> None:
        """Show the heads of what is shown now."""
        maps = () if shown is None else shown.head_maps
        self.setVisible(bool(maps))
        while len(self.buttons) > len(maps):
            button = self.buttons.pop()
            self._grid.removeWidget(button)
            button.deleteLater()
        while len(self.buttons) < len(maps):
            self._add()
        if shown is None:
            return
        for button, map_yx, figures in zip(self.buttons, maps, shown.head_figures, strict=False):
            button.setIcon(QIcon(_picture(map_yx)))
            button.setText(say_head(figures))
            button.setChecked(figures.head == shown.intent.head)

    def _add(self) -> None:
        button, head = QToolButton(), len(self.buttons)
        button.setIconSize(QSize(SIDE_PX, SIDE_PX))
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        button.setCheckable(True)
        button.setToolTip(
            "Entropy of the attention: low looks at few places, high at many. And the mean "
            "distance to where it looks, in image pixels."
        )
        button.clicked.connect(lambda: self.chosen.emit(head))
        self._grid.addWidget(button, head // COLUMNS, head % COLUMNS)
        self.buttons.append(button)


def _picture(map_yx: Array) -> QPixmap:
    """Draw a map in the colours of the layer, cell by cell."""
    brightest = float(np.percentile(map_yx, _BRIGHTEST_PCT)) or float(map_yx.max()) or 1.0
    scaled = np.clip(map_yx / brightest, 0, 1).ravel()
    colours = np.round(255 * ensure_colormap("magma").map(scaled)[:, :3]).astype(np.uint8)
    height, width = map_yx.shape
    pixels = np.ascontiguousarray(colours.reshape(height, width, 3))
    image = QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888)
    aspect = Qt.AspectRatioMode.KeepAspectRatio
    # a copy, as the pixels belong to the array
    return QPixmap.fromImage(image.copy()).scaled(SIDE_PX, SIDE_PX, aspect)
