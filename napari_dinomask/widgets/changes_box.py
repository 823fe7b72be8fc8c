"""Before and after: what was gained, lost and changed, and a line to swipe between the two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_dinomask.layers import look_at
from napari_dinomask.layers.swipe import CHANGED_COLOUR, GAINED_COLOUR, LOST_COLOUR, SwipeLayer
from napari_dinomask.teach_wording import say_changes
from napari_dinomask.widgets.look import PLAIN_BUTTON, caption, hint, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

    from dinomask.measure.changes import Change
    from napari_dinomask.comparison import Compared

_LISTED = 500
_HEIGHT_PX = 190
_ROLE = Qt.ItemDataRole.UserRole
_MARGIN_PX = 12
_SIDES = {"gained": 0.0, "lost": 1.0, "changed": 0.5}
"""Where the edge goes, in widths of an object: to where it can be seen."""


class ChangesBox(QWidget):
    """Lists what an adapter changes; hidden until there is something to compare."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._compared: Compared | None = None
        self.swipe: SwipeLayer | None = None
        self.note = hint()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.tree = QTreeWidget()
        self.tree.setHeaderHidden(True)
        self.tree.setFixedHeight(_HEIGHT_PX)
        self.done = QPushButton("Done")
        self.done.setToolTip("Take the comparison away")
        self.done.setStyleSheet(PLAIN_BUTTON)
        self._arrange()
        self.slider.valueChanged.connect(self._on_moved)
        self.tree.itemClicked.connect(self._on_clicked)
        self.tree.itemActivated.connect(self._on_clicked)
        self.done.clicked.connect(self.clear)
        self.hide()

    def _arrange(self) -> None:
        row = QHBoxLayout()
        row.addWidget(QLabel("before"))
        row.addWidget(self.slider, 1)
        row.addWidget(QLabel("after"))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 6, 0, 0)
        column.setSpacing(4)
        for widget in (caption("Before | after"), self.note):
            column.addWidget(widget)
        column.addLayout(row)
        column.addWidget(self.tree)
        column.addWidget(self.done)

    def show_compared(self, compared: Compared) -> None:
        """Show another comparison."""
        self.clear()
        field, changes = compared.field, compared.changes
        if field.layer not in self._viewer.layers:
            return
        self._compared = compared
        corner = field.window_yxyx_px[:2]
        self.swipe = SwipeLayer(
            self._viewer, field.layer, field.view, corner, compared.before_yx, compared.after_yx
        )
        self.swipe.colour(
            [c.label for c in changes.gained],
            [c.label for c in changes.lost],
            [c.label for c in changes.changed],
        )
        groups = {
            "gained": (changes.gained, GAINED_COLOUR),
            "lost": (changes.lost, LOST_COLOUR),
            "changed": (changes.changed, CHANGED_COLOUR),
        }
        for name, (found, colour) in groups.items():
            self._add_group(name, found, colour)
        n_gained, n_lost, n_changed = (len(found) for found, _ in groups.values())
        tell(self.note, say_changes(n_gained, n_lost, n_changed, changes.n_same))
        self.slider.setRange(0, self.swipe.width_px)
        self.slider.setValue(self.swipe.width_px // 2)
        self.show()

    def _add_group(self, name: str, found: Sequence[Change], colour: str) -> None:
        group = QTreeWidgetItem([f"{len(found):,} {name}"])
        group.setForeground(0, QColor(colour))
        for change in found[:_LISTED]:
            y, x = change.centre_yx_px
            iou = f", IoU {change.iou:.2f}" if name == "changed" else ""
            item = QTreeWidgetItem([f"y {y:.0f}, x {x:.0f}{iou}"])
            item.setData(0, _ROLE, (name, change))
            group.addChild(item)
        if len(found) > _LISTED:
            group.addChild(QTreeWidgetItem([f"… and {len(found) - _LISTED:,} more"]))
        self.tree.addTopLevelItem(group)
        group.setExpanded(name != "changed")

    def clear(self) -> None:
        """Take the comparison away."""
        swipe, self.swipe = self.swipe, None
        self._compared = None
        if swipe is not None:
            swipe.remove()
        self.tree.clear()
        self.hide()

    def _on_moved(self, edge_px: int) -> None:
        if self.swipe is not None:
            self.swipe.move_edge(edge_px)

    def _on_clicked(self, item: QTreeWidgetItem, column: int = 0) -> None:
        """Go to an object, with the edge where it can be seen."""
        told = item.data(0, _ROLE)
        if told is None or self._compared is None or self.swipe is None:
            return
        name, change = told
        field = self._compared.field
        y0, x0, y1, x1 = change.box_yxyx_px
        self.slider.setValue(round(x0 + _SIDES[name] * (x1 - x0)))
        top, left = field.window_yxyx_px[:2]
        margin = max(_MARGIN_PX, y1 - y0, x1 - x0)
        window = (y0 - margin + top, x0 - margin + left, y1 + margin + top, x1 + margin + left)
        if field.layer in self._viewer.layers:
            look_at(self._viewer, field.layer, field.view, window)
