"""Which planes of a movie or stack are segmented, and whether their objects are linked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QVBoxLayout,
    QWidget,
)

from dinomask.config import LINK_IOU, PlanesConfig
from napari_dinomask.session import describe_field
from napari_dinomask.widgets.layer_combo import set_entries
from napari_dinomask.widgets.look import caption

if TYPE_CHECKING:
    from napari_dinomask.session import LayerFacts

ONE_PLANE, ALL_PLANES = "the one on display", "all"
NO_LINK = "off"


class PlanesBox(QWidget):
    """Choose one plane or all; hidden for images of a single plane."""

    changed = Signal()
    """Other planes are chosen."""

    def __init__(self) -> None:
        super().__init__()
        self._has_planes = False
        self.planes_combo = QComboBox()
        self.planes_combo.addItems([ONE_PLANE, ALL_PLANES])
        self.planes_combo.setToolTip(
            "All planes share one object size and one normalisation, and become one layer of labels"
        )
        self.link_caption = caption("Link objects through planes")
        self.link_combo = QComboBox()
        self.iou = QDoubleSpinBox()
        self.iou.setRange(0.05, 1.0)
        self.iou.setSingleStep(0.05)
        self.iou.setPrefix("IoU ≥ ")
        self.iou.setValue(LINK_IOU)
        self.bridge = QCheckBox("also across one plane that misses it")
        self.bridge.setChecked(PlanesConfig.bridge)
        for widget in (self.link_combo, self.iou):
            widget.setToolTip(describe_field(PlanesConfig, "stitch_z"))
        self.bridge.setToolTip(describe_field(PlanesConfig, "bridge"))
        self._arrange()
        self.planes_combo.currentIndexChanged.connect(self._on_chosen)
        self.link_combo.currentIndexChanged.connect(self._show)
        self.show_facts(None)

    def _arrange(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.link_combo, 1)
        row.addWidget(self.iou)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        column.addWidget(caption("Planes"))
        column.addWidget(self.planes_combo)
        column.addWidget(self.link_caption)
        column.addLayout(row)
        column.addWidget(self.bridge)

    @property
    def wants_all(self) -> bool:
        """Whether all planes are to be segmented."""
        return self._has_planes and self.planes_combo.currentText() == ALL_PLANES

    @property
    def _is_linked(self) -> bool:
        return self.wants_all and self.link_combo.currentIndex() > 0

    @property
    def config(self) -> PlanesConfig | None:
        """How all planes are linked; None for the plane on display alone."""
        if not self.wants_all:
            return None
        if not self._is_linked:
            return PlanesConfig()
        return PlanesConfig(round(self.iou.value(), 2), self.bridge.isChecked())

    def show_facts(self, facts: LayerFacts | None) -> None:
        """Offer what a layer has; None hides all."""
        self._has_planes = facts is not None and bool(facts.plane)
        if facts is not None and facts.link_axis is not None:
            set_entries(self.link_combo, [NO_LINK, f"through {facts.link_axis}"])
        self._show()

    def _on_chosen(self) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        self.setVisible(self._has_planes)
        for widget in (self.link_caption, self.link_combo):
            widget.setVisible(self.wants_all)
        for widget in (self.iou, self.bridge):
            widget.setVisible(self._is_linked)
