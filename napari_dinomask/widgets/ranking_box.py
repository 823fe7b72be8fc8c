"""All cells, the likest first; a click goes there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSpinBox,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_dinomask.objects import ALIKE
from napari_dinomask.objects_wording import say_number
from napari_dinomask.widgets.look import PLAIN_BUTTON, caption, hint, tell

if TYPE_CHECKING:
    import pandas as pd

    from napari_dinomask.selection import Keys

_LISTED = 500
_HEIGHT_PX = 170
_ROLE = Qt.ItemDataRole.UserRole
_SHOWN = ("score", "area_px")
_FIRST = 20


class RankingBox(QWidget):
    """Lists cells by likeness; hidden until there is a ranking."""

    pointed = Signal(object)
    """The key of a cell to go to."""

    chose = Signal(object)
    """Keys of the first so many."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: Keys = np.empty(0, np.int64)
        self.note = hint()
        self.tree = QTreeWidget()
        self.tree.setRootIsDecorated(False)
        self.tree.setUniformRowHeights(True)
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.tree.setFixedHeight(_HEIGHT_PX)
        header = self.tree.header()
        if header is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
            header.setMinimumSectionSize(40)
        self.count = QSpinBox()
        self.count.setMinimum(1)
        self.choose_first = QPushButton("Choose them")
        self.choose_first.setStyleSheet(PLAIN_BUTTON)
        self.choose_first.setToolTip("Choose the likest cells, on the map and in the image")
        row = QHBoxLayout()
        row.addWidget(QLabel("The first"))
        row.addWidget(self.count)
        row.addWidget(self.choose_first)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(caption("Cells by likeness"))
        column.addWidget(self.tree)
        column.addWidget(self.note)
        column.addLayout(row)
        self.tree.itemClicked.connect(self._on_clicked)
        self.tree.itemActivated.connect(self._on_clicked)
        self.choose_first.clicked.connect(self._on_choose)
        self.hide()

    def show_ranking(self, table: pd.DataFrame) -> None:
        """List cells.

        Parameters
        ----------
        table : with the columns ``id`` and ``likeness``, the likest first
        """
        columns = [name for name in _SHOWN if name in table.columns]
        self._keys = table["id"].to_numpy(np.int64)
        self.tree.clear()
        self.tree.setHeaderLabels(["cell", ALIKE, *(c.replace("_", " ") for c in columns)])
        items = []
        for row in table.head(_LISTED).to_dict("records"):
            numbers = [say_number(float(row[name])) for name in (ALIKE, *columns)]
            item = QTreeWidgetItem([str(row["id"]), *numbers])
            item.setData(0, _ROLE, int(row["id"]))
            items.append(item)
        self.tree.addTopLevelItems(items)
        self.count.setMaximum(max(len(self._keys), 1))
        self.count.setValue(min(_FIRST, len(self._keys)))
        more = len(self._keys) - _LISTED
        tell(self.note, f"… and {more:,} more" if more > 0 else "")
        self.show()

    def clear(self) -> None:
        """Take the ranking away."""
        self.tree.clear()
        self.hide()

    def _on_clicked(self, item: QTreeWidgetItem, column: int = 0) -> None:
        self.pointed.emit(int(item.data(0, _ROLE)))

    def _on_choose(self) -> None:
        self.chose.emit(self._keys[: self.count.value()])
