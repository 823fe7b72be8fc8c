"""A form for the map of the cells: method, and layer of the network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from dinomask.config import MapConfig
from napari_dinomask.session import describe_field
from napari_dinomask.widgets.look import PRIMARY_BUTTON

if TYPE_CHECKING:
    from qtpy.QtGui import QValidator

_METHODS = {"UMAP": "umap", "t-SNE": "tsne", "PCA": "pca"}
_DEEPEST = 48
_USUAL = 0
LAYER_TIP = (
    "The network looks in layers: early ones see edges and texture, late ones shapes and kinds. "
    "The usual one lies at three quarters of the depth; after it, tiles agree less."
)


class LayerSpin(QSpinBox):
    """Chooses a layer of the network, counted from the last, or leaves it to the library."""

    def __init__(self) -> None:
        super().__init__()
        self.setRange(-_DEEPEST, _USUAL)
        self.setValue(_USUAL)
        self.setToolTip(LAYER_TIP)

    @property
    def layer_index(self) -> int | None:
        """The layer, of which -1 is the last; None is the library's default."""
        return None if self.value() == _USUAL else int(self.value())

    def textFromValue(self, value: int) -> str:
        """Say which."""
        if value == _USUAL:
            return "usual layer"
        return "last layer" if value == -1 else f"last − {-1 - value}"

    def valueFromText(self, text: str | None) -> int:
        """Understand what is typed: ``3`` and ``last − 3`` are the same layer."""
        found = re.search(r"\d+", text or "")
        if found:
            return -1 - int(found.group())
        return -1 if "last" in (text or "") else _USUAL

    def validate(self, text: str | None, place: int) -> tuple[QValidator.State, str, int]:
        """Let anything be typed; what can't be understood is the usual layer."""
        from qtpy.QtGui import QValidator

        return QValidator.State.Acceptable, text or "", place


class MapForm(QWidget):
    """Chooses how cells are laid out."""

    wanted = Signal()
    """The cells are to be mapped as the form says."""

    def __init__(self) -> None:
        super().__init__()
        self.method = QComboBox()
        for text, name in _METHODS.items():
            self.method.addItem(text, name)
        self.method.setCurrentIndex(self.method.findData(MapConfig.method))
        self.method.setToolTip(describe_field(MapConfig, "method"))
        self.layer = LayerSpin()
        self.start = QPushButton("Map the cells")
        self.start.setStyleSheet(PRIMARY_BUTTON)
        row = QHBoxLayout()
        row.addWidget(QLabel("Map"))
        row.addWidget(self.method, 1)
        row.addWidget(QLabel("of"))
        row.addWidget(self.layer, 1)
        for widget in (self.method, self.layer):
            widget.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        column.addLayout(row)
        column.addWidget(self.start)
        self.start.clicked.connect(self.wanted)

    @property
    def config(self) -> MapConfig:
        """How cells are laid out."""
        return MapConfig(method=self.method.currentData())

    @property
    def layer_index(self) -> int | None:
        """The layer, of which -1 is the last; None is the library's default."""
        return self.layer.layer_index
