"""What to compress, in which ways, and on which images to compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from dinomask.config import BenchConfig, CompressConfig, SegmentConfig
from napari_dinomask.compressing import WAYS, CompressIntent, gain_of, grouped_methods, say_method
from napari_dinomask.session import describe_field
from napari_dinomask.widgets.look import PLAIN_BUTTON, caption, hint, tell
from napari_dinomask.widgets.model_combo import ModelCombo

if TYPE_CHECKING:
    from collections.abc import Mapping

LAYERS, FOLDER = "open image layers", "a folder of images"
_INDENT_PX = 20


class MethodChoice(QWidget):
    """A method with what it is good for, or why it can't be used."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.box = QCheckBox(name)
        self.note = hint(gain_of(name))
        self.note.setContentsMargins(_INDENT_PX, 0, 0, 0)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.box)
        column.addWidget(self.note)
        self.setToolTip(say_method(name))

    def allow(self, reason: str | None) -> None:
        """Let it be chosen, or say why it can't."""
        self.box.setEnabled(reason is None)
        if reason is not None:
            self.box.setChecked(False)
        tell(self.note, gain_of(self.name) if reason is None else f"Not here: {reason}.")


class CompressForm(QWidget):
    """Choose a model, methods and images."""

    model_chosen = Signal()
    """Another model: other methods may be possible."""

    changed = Signal()
    """Whether it can be started may have changed."""

    def __init__(self) -> None:
        super().__init__()
        self.model_combo = ModelCombo()
        self.model_hint = hint()
        self.methods = {
            name: MethodChoice(name) for ns in grouped_methods().values() for name in ns
        }
        self.way = QComboBox()
        self.minutes = QDoubleSpinBox()
        self.data = QComboBox()
        self.folder = QLineEdit()
        self.browse = QPushButton("Choose…")
        self.images = QSpinBox()
        self.threads = QSpinBox()
        self._fill()
        self._arrange()
        self._connect()

    def _fill(self) -> None:
        for key, text in WAYS.items():
            self.way.addItem(text, key)
        self.way.setToolTip("With all in one, methods are applied one after another")
        self.minutes.setRange(0.1, 24 * 60)
        self.minutes.setDecimals(1)
        self.minutes.setValue(CompressIntent.minutes)
        self.minutes.setSuffix(" min a training")
        self.data.addItems([LAYERS, FOLDER])
        self.folder.setPlaceholderText("with or without labels")
        self.browse.setStyleSheet(PLAIN_BUTTON)
        self.images.setRange(1, 1000)
        self.images.setValue(CompressIntent.images)
        self.images.setToolTip(describe_field(BenchConfig, "bench_images"))
        self.threads.setRange(0, 256)
        self.threads.setSpecialValueText("all cores but one")
        self.threads.setToolTip(describe_field(CompressConfig, "threads"))
        self.model_combo.setToolTip(describe_field(SegmentConfig, "model"))

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (caption("Model"), self.model_combo, self.model_hint):
            column.addWidget(widget)
        for title, names in grouped_methods().items():
            column.addWidget(caption(title))
            for name in names:
                column.addWidget(self.methods[name])
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.folder, 1)
        line.addWidget(self.browse)
        self.folder_row = row
        fields = QFormLayout()
        fields.setContentsMargins(0, 0, 0, 0)
        for text, widget in (
            ("Several methods", self.way),
            ("Training", self.minutes),
            ("Compare on", self.data),
            ("", row),
            ("Images at most", self.images),
            ("Threads", self.threads),
        ):
            fields.addRow(QLabel(text), widget)
        column.addWidget(caption("How"))
        column.addLayout(fields)

    def _connect(self) -> None:
        self.model_combo.chosen.connect(self.model_chosen)
        self.data.currentTextChanged.connect(self._show_data)
        self.folder.textChanged.connect(lambda _: self.changed.emit())
        self.browse.clicked.connect(self._browse)
        for method in self.methods.values():
            method.box.toggled.connect(self._show_trains)
        self._show_data()
        self._show_trains()

    @property
    def place(self) -> Path | None:
        """The folder of images; None for the viewer's layers."""
        text = self.folder.text().strip()
        is_folder = self.data.currentText() == FOLDER
        return Path(text).expanduser() if is_folder and text else None

    @property
    def from_layers(self) -> bool:
        """Whether the viewer's layers are compared on."""
        return self.data.currentText() == LAYERS

    def intent(self) -> CompressIntent:
        """Read the form."""
        return CompressIntent(
            self.model_combo.model,
            self.model_combo.adapter,
            tuple(name for name, method in self.methods.items() if method.box.isChecked()),
            self.way.currentData(),
            self.images.value(),
            self.minutes.value(),
            self.threads.value() or None,
        )

    def show_reasons(self, reasons: Mapping[str, str]) -> None:
        """Grey what this model or machine can't do, with the reason."""
        tell(self.model_hint, "")
        for name, method in self.methods.items():
            method.allow(reasons.get(name))

    def show_asking(self) -> None:
        """Say that it isn't known yet which methods are possible."""
        tell(self.model_hint, "Looking what this model and machine can do…")

    def show_problem(self, text: str) -> None:
        """Say why the model can't be compressed."""
        tell(self.model_hint, text)
        for method in self.methods.values():
            with QSignalBlocker(method.box):
                method.allow("the model can't be compressed")
        self.changed.emit()

    def _show_data(self) -> None:
        self.folder_row.setVisible(not self.from_layers)
        self.changed.emit()

    def _show_trains(self) -> None:
        self.minutes.setEnabled(self.intent().trains)
        self.changed.emit()

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Images to compare on", self.folder.text())
        if chosen:
            self.folder.setText(chosen)
