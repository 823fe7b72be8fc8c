"""The object size: estimated, typed, or taken from one drawn cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QHBoxLayout,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from dinomask.config import MIN_DIAMETER_PX, ModelConfig, SegmentConfig
from napari_dinomask.session import describe_field
from napari_dinomask.widgets.look import PLAIN_BUTTON, hint, tell
from napari_dinomask.wording import say_length, say_um

if TYPE_CHECKING:
    from typing import Literal

    from napari_dinomask.session import LayerFacts

LARGEST_PX = 100_000.0
DRAWING_HINT = "Drag an ellipse round one typical cell in the image."


class SizeChooser(QWidget):
    """Choose the median diameter of the objects."""

    draw_toggled = Signal(bool)
    """The user wants to draw a cell, or no longer does."""

    def __init__(self) -> None:
        super().__init__()
        self._facts: LayerFacts | None = None
        self.estimate = QRadioButton("Estimate from the image")
        self.estimate.setChecked(SegmentConfig.diameter_px == "auto")
        self.typed = QRadioButton("Diameter")
        self.field = QDoubleSpinBox()
        self.field.setRange(MIN_DIAMETER_PX, LARGEST_PX)
        self.field.setDecimals(1)
        self.field.setSuffix(" px")
        self.field.setValue(ModelConfig.target_diameter_px)
        self.micrometres = hint()
        self.draw = QPushButton("Take it from a cell I draw")
        self.draw.setCheckable(True)
        self.draw.setStyleSheet(PLAIN_BUTTON)
        self.note = hint()
        for widget in (self.estimate, self.typed, self.field):
            widget.setToolTip(describe_field(SegmentConfig, "diameter_px"))
        self.draw.setToolTip("Draw round one typical cell; its size is put into the field.")
        self._arrange()
        self.field.valueChanged.connect(self._on_typed)
        self.draw.toggled.connect(self._on_draw)

    def _arrange(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self.typed)
        row.addWidget(self.field, 1)
        row.addWidget(self.micrometres)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.estimate)
        column.addLayout(row)
        column.addWidget(self.draw)
        column.addWidget(self.note)

    @property
    def diameter_px(self) -> float | Literal["auto"]:
        """What is chosen, in pixels of the image."""
        return "auto" if self.estimate.isChecked() else self.field.value()

    def show_facts(self, facts: LayerFacts | None) -> None:
        """Show sizes in the pixel size of another layer."""
        self._facts = facts
        self._show_micrometres()

    def take_drawn(self, diameter_px: float) -> None:
        """Put the size of a drawn cell into the field."""
        self.field.setValue(diameter_px)
        self.typed.setChecked(True)
        tell(self.note, f"Taken from the drawn cell: {say_length(diameter_px, self._facts)}.")

    def show_estimate(self, diameter_px: float) -> None:
        """Say what a run estimated, ready to be typed over."""
        if self.estimate.isChecked():
            self._set_quietly(diameter_px)
            tell(self.note, f"Estimated: {say_length(diameter_px, self._facts)}.")

    def _set_quietly(self, diameter_px: float) -> None:
        """Fill the field without choosing it."""
        self.field.blockSignals(True)
        self.field.setValue(diameter_px)
        self.field.blockSignals(False)
        self._show_micrometres()

    def _on_typed(self) -> None:
        self.typed.setChecked(True)
        tell(self.note, "")
        self._show_micrometres()

    def _on_draw(self, wanted: bool) -> None:
        tell(self.note, DRAWING_HINT if wanted else "")
        self.draw_toggled.emit(wanted)

    def _show_micrometres(self) -> None:
        length_um = self._facts.to_um(self.field.value()) if self._facts else None
        tell(self.micrometres, f"= {say_um(length_um)}" if length_um is not None else "")
