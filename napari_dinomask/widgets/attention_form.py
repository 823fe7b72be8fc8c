"""What to show of a tile: which map, whose attention, which layer and head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_dinomask.explaining import ExplainIntent
from napari_dinomask.widgets.look import caption

if TYPE_CHECKING:
    from napari_dinomask.explaining import What, Whose

WHAT: dict[What, str] = {
    "attention": "where the backbone looks",
    "score": "detector: score",
    "class": "detector: class",
    "centerness": "detector: centerness",
    "mask": "mask head: where it looks",
}
WHOSE: dict[Whose, str] = {
    "place": "the place I click",
    "cell": "the cell I click",
    "class": "the class token",
    "registers": "the register tokens",
    "all": "all places",
}


class AttentionForm(QWidget):
    """Choices; which layers and heads there are is known once the model has looked."""

    changed = Signal()
    """The user chose something else."""

    def __init__(self) -> None:
        super().__init__()
        self.what, self.whose = QComboBox(), QComboBox()
        for combo, choices in ((self.what, WHAT), (self.whose, WHOSE)):
            for name, text in choices.items():
                combo.addItem(text, name)
        self.layer_slider, self.layer_value = self._slider()
        self.head_slider, self.head_value = self._slider()
        self.rollout = QCheckBox("Follow it through all layers (rollout)")
        self.rollout.setToolTip("Abnar and Zuidema 2020: half of each layer's input passes by.")
        self.all_heads = QCheckBox("All heads beside each other")
        self.of_attention = QWidget()
        self._n_layers = self._n_heads = 0
        self._arrange()
        self._connect()
        self._show()

    @staticmethod
    def _slider() -> tuple[QSlider, QLabel]:
        slider = QSlider(Qt.Orientation.Horizontal)
        slider.setPageStep(1)
        value = QLabel()
        value.setMinimumWidth(64)
        return slider, value

    def _arrange(self) -> None:
        grid = QWidget()
        rows = QGridLayout(grid)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setColumnStretch(1, 1)
        sliders = (("Layer", self.layer_slider, self.layer_value),)
        sliders += (("Head", self.head_slider, self.head_value),)
        for row, (title, slider, value) in enumerate(sliders):
            rows.addWidget(QLabel(title), row, 0)
            rows.addWidget(slider, row, 1)
            rows.addWidget(value, row, 2)
        inner = QVBoxLayout(self.of_attention)
        for widget in (caption("Whose attention"), self.whose, grid, self.rollout, self.all_heads):
            inner.addWidget(widget)
        column = QVBoxLayout(self)
        for widget in (caption("Show"), self.what, self.of_attention):
            column.addWidget(widget)
        for layout in (inner, column):
            layout.setContentsMargins(0, 0, 0, 0)
            layout.setSpacing(5)

    def _connect(self) -> None:
        for combo in (self.what, self.whose):
            combo.currentIndexChanged.connect(self._on_changed)
        for slider in (self.layer_slider, self.head_slider):
            slider.valueChanged.connect(self._on_changed)
        for box in (self.rollout, self.all_heads):
            box.toggled.connect(self._on_changed)

    @property
    def intent(self) -> ExplainIntent:
        """What the form says."""
        head, rolls = self.head_slider.value() - 1, self.rollout.isChecked()
        return ExplainIntent(
            self.what.currentData(),
            self.whose.currentData(),
            self.layer_slider.value() if self._n_layers else -1,
            head if head >= 0 and not rolls else None,
            rolls,
            self.all_heads.isChecked() and not rolls,
        )

    def show_choices(self, n_layers: int, n_heads: int) -> None:
        """Tell which layers and heads there are; 0 while that is unknown."""
        is_first = n_layers and not self._n_layers
        self._n_layers, self._n_heads = n_layers, n_heads
        if n_layers:
            with QSignalBlocker(self.layer_slider), QSignalBlocker(self.head_slider):
                self.layer_slider.setMaximum(n_layers - 1)
                self.head_slider.setMaximum(n_heads)
                if is_first:
                    # what is shown first
                    self.layer_slider.setValue(n_layers - 1)
        self._show()

    def choose_head(self, head: int) -> None:
        """Choose a head."""
        self.head_slider.setValue(head + 1)

    def _on_changed(self) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        self.of_attention.setVisible(self.what.currentData() == "attention")
        is_known = self._n_layers > 0
        self.layer_slider.setEnabled(is_known)
        self.head_slider.setEnabled(is_known and not self.rollout.isChecked())
        layer, head = self.layer_slider.value(), self.head_slider.value() - 1
        self.layer_value.setText(f"{layer} of {self._n_layers - 1}" if is_known else "last")
        self.head_value.setText("mean" if head < 0 else f"{head} of {self._n_heads - 1}")
