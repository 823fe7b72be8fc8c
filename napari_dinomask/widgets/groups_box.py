"""A form for groups of cells that look alike."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from dinomask.config import ClusterConfig
from napari_dinomask.session import describe_field
from napari_dinomask.widgets.look import SMALL_BUTTON, caption

_METHODS = {"k-means": "kmeans", "HDBSCAN": "hdbscan"}
_MOST = 100


class GroupsBox(QWidget):
    """Chooses how cells are parted into groups."""

    wanted = Signal()
    """Groups are to be found as the form says."""

    def __init__(self) -> None:
        super().__init__()
        self.method = QComboBox()
        for text, name in _METHODS.items():
            self.method.addItem(text, name)
        self.method.setCurrentIndex(self.method.findData(ClusterConfig.method))
        self.method.setToolTip(describe_field(ClusterConfig, "method"))
        self.n_clusters = self._spin(ClusterConfig.n_clusters, "", "n_clusters")
        self.min_size = self._spin(ClusterConfig.min_size, " or more", "min_size")
        self.start = QPushButton("Group")
        self.start.setStyleSheet(SMALL_BUTTON)
        row = QHBoxLayout()
        row.setSpacing(4)
        for field, share in ((self.method, 4), (self.n_clusters, 5), (self.min_size, 5)):
            field.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            row.addWidget(field, share)
        row.addWidget(self.start)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(caption("Groups"))
        column.addLayout(row)
        self.method.currentIndexChanged.connect(self._show_fields)
        self.start.clicked.connect(self.wanted)
        self._show_fields()

    @staticmethod
    def _spin(value: int, suffix: str, field: str) -> QSpinBox:
        spin = QSpinBox()
        spin.setRange(2, _MOST)
        spin.setValue(value)
        spin.setSuffix(suffix)
        spin.setToolTip(describe_field(ClusterConfig, field))
        return spin

    @property
    def config(self) -> ClusterConfig:
        """What the form says."""
        return ClusterConfig(
            method=self.method.currentData(),
            n_clusters=self.n_clusters.value(),
            min_size=self.min_size.value(),
        )

    def _show_fields(self, _: int = 0) -> None:
        is_kmeans = self.method.currentData() == "kmeans"
        self.n_clusters.setVisible(is_kmeans)
        self.min_size.setVisible(not is_kmeans)
