"""What was taught so far: used, rolled back, looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_dinomask.teach_wording import NO_ADAPTERS, say_entry, say_mb
from napari_dinomask.widgets.look import PLAIN_BUTTON, caption, hint, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.adapt.shelf import Entry

_HEIGHT_PX = 130
_ROLE = Qt.ItemDataRole.UserRole


class ShelfBox(QWidget):
    """The adapters with name, size and state, and what can be done with the chosen one."""

    use = Signal(str)
    """The adapter of this name is to be in use."""

    roll_back = Signal(str)
    """Back to what was in use before, on the checkpoint with this hash."""

    compare = Signal(str)
    """The adapter of this name is to be compared with what is in use without it."""

    delete = Signal(str)
    """The adapter of this name is to be deleted."""

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, Entry] = {}
        self.note = hint(NO_ADAPTERS)
        self.tree = QTreeWidget()
        self.tree.setHeaderLabels(["Name", "Size", "State"])
        self.tree.setRootIsDecorated(False)
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.tree.setFixedHeight(_HEIGHT_PX)
        header = self.tree.header()
        if header is not None:
            header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
            for column in (1, 2):
                header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
            header.setStretchLastSection(False)
        self.buttons = {
            "use": QPushButton("Use it"),
            "roll_back": QPushButton("Roll back"),
            "compare": QPushButton("Before | after"),
            "delete": QPushButton("Delete"),
        }
        self._arrange()
        self._connect()
        self.show_entries([])

    def _arrange(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(4)
        for button in self.buttons.values():
            button.setStyleSheet(PLAIN_BUTTON)
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(caption("Taught so far"))
        column.addWidget(self.tree)
        column.addWidget(self.note)
        column.addLayout(row)

    def _connect(self) -> None:
        self.tree.itemSelectionChanged.connect(self._show_chosen)
        tips = {
            "use": "Segment with it from now on, wherever its model is used",
            "roll_back": "Use what was in use before it",
            "compare": "Segment what is on display without and with it, and list what changes",
            "delete": "Delete it for good",
        }
        for name, button in self.buttons.items():
            button.setToolTip(tips[name])
        self.buttons["use"].clicked.connect(lambda: self.use.emit(self.chosen))
        self.buttons["compare"].clicked.connect(lambda: self.compare.emit(self.chosen))
        self.buttons["delete"].clicked.connect(lambda: self.delete.emit(self.chosen))
        self.buttons["roll_back"].clicked.connect(self._on_roll_back)

    @property
    def chosen(self) -> str:
        """The name of the chosen adapter; empty if there is none."""
        items = self.tree.selectedItems()
        return str(items[0].data(0, _ROLE)) if items else ""

    @property
    def names(self) -> list[str]:
        """The names of all."""
        return list(self._entries)

    def choose(self, name: str) -> None:
        """Choose an adapter by its name."""
        for i in range(self.tree.topLevelItemCount()):
            item = self.tree.topLevelItem(i)
            if item is not None and item.data(0, _ROLE) == name:
                self.tree.setCurrentItem(item)

    def show_entries(self, entries: Sequence[Entry]) -> None:
        """Show what is on the shelf."""
        chosen = self.chosen
        self._entries = {e.name: e for e in entries if e.kind == "adapter"}
        self.tree.clear()
        for name, entry in self._entries.items():
            item = QTreeWidgetItem([name, say_mb(entry.size_mb), entry.state])
            item.setData(0, _ROLE, name)
            item.setToolTip(0, say_entry(entry))
            self.tree.addTopLevelItem(item)
        self.tree.setVisible(bool(self._entries))
        self.choose(chosen)
        self._show_chosen()

    def _show_chosen(self) -> None:
        entry = self._entries.get(self.chosen)
        is_whole = entry is not None and entry.manifest is not None and entry.state != "damaged"
        in_use = entry is not None and entry.state == "in use"
        self.buttons["use"].setEnabled(is_whole and not in_use)
        self.buttons["compare"].setEnabled(is_whole)
        self.buttons["roll_back"].setEnabled(in_use)
        self.buttons["delete"].setEnabled(entry is not None and not in_use)
        for button in self.buttons.values():
            button.setVisible(bool(self._entries))
        text = "" if entry is None else say_entry(entry)
        tell(self.note, text if self._entries else NO_ADAPTERS)

    def _on_roll_back(self) -> None:
        entry = self._entries.get(self.chosen)
        base = getattr(entry.manifest, "base_sha256", "") if entry is not None else ""
        if base:
            self.roll_back.emit(base)
