"""What to teach, from what, and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from dinomask.config import TeachConfig
from dinomask.nets.catalogue import list_models
from napari_dinomask.session import describe_field
from napari_dinomask.teach_wording import MODES, say_lesson
from napari_dinomask.teaching import TeachIntent, join_classes, join_lessons, suggest_name
from napari_dinomask.widgets.look import caption, hint, tell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_dinomask.teaching import Lesson, Source

ALL = "all of these"
_LONGEST_MINUTES = 24 * 60


class TeachForm(QWidget):
    """Choose corrected labels, a name, what learns, and the time."""

    changed = Signal()
    """Anything that a plan depends on."""

    def __init__(self) -> None:
        super().__init__()
        self._sources: list[Source] = []
        self._suggested = ""
        self._taken: set[str] = set()
        self.source_combo = QComboBox()
        self.source_combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.lesson_hint = hint()
        self.name = QLineEdit()
        self.name.setToolTip("What the result is called on the shelf")
        self.model = QComboBox()
        self.mode = QComboBox()
        self.minutes = QDoubleSpinBox()
        self._fill()
        self._arrange()
        self._connect()

    def _fill(self) -> None:
        self.model.addItems(list(list_models()))
        self.model.setCurrentText(TeachConfig.model)
        self.model.setToolTip(describe_field(TeachConfig, "model"))
        for mode, text in MODES.items():
            self.mode.addItem(text, mode)
        self.mode.setCurrentIndex(self.mode.findData(TeachConfig.mode))
        self.mode.setToolTip(describe_field(TeachConfig, "mode"))
        self.mode.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.minutes.setRange(0.1, _LONGEST_MINUTES)
        self.minutes.setDecimals(1)
        self.minutes.setValue(TeachConfig.minutes)
        self.minutes.setSuffix(" min")
        self.minutes.setToolTip(describe_field(TeachConfig, "minutes"))

    def _arrange(self) -> None:
        fields = QFormLayout()
        fields.setContentsMargins(0, 0, 0, 0)
        for text, widget in (
            ("Name", self.name),
            ("Model", self.model),
            ("Learns", self.mode),
            ("Time", self.minutes),
        ):
            fields.addRow(QLabel(text), widget)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(5)
        for widget in (
            caption("Corrections"),
            self.source_combo,
            self.lesson_hint,
            caption("Teaching"),
        ):
            column.addWidget(widget)
        column.addLayout(fields)

    def _connect(self) -> None:
        self.source_combo.currentIndexChanged.connect(self._on_source)
        self.model.currentTextChanged.connect(self.changed.emit)
        self.mode.currentIndexChanged.connect(self.changed.emit)
        self.minutes.valueChanged.connect(self.changed.emit)

    def show_sources(self, sources: Sequence[Source]) -> None:
        """Offer corrected label layers, and count their corrections again."""
        chosen = self.source_combo.currentText()
        self._sources = list(sources)
        names = [source.name for source in sources]
        with QSignalBlocker(self.source_combo):
            self.source_combo.clear()
            self.source_combo.addItems([*names, ALL] if len(names) > 1 else names)
            if chosen in (*names, ALL):
                self.source_combo.setCurrentText(chosen)
        self.source_combo.setVisible(bool(names))
        self._on_source()

    def show_taken(self, names: Iterable[str]) -> None:
        """Take note of the names that are given, and suggest another one."""
        self._taken = set(names)
        self._suggest()

    @property
    def chosen(self) -> list[Source]:
        """The chosen layers."""
        index = self.source_combo.currentIndex()
        return list(self._sources) if index >= len(self._sources) else self._sources[index:][:1]

    @property
    def lesson(self) -> Lesson:
        """What there is to learn from them."""
        return join_lessons([source.lesson() for source in self.chosen])

    def intent(self) -> TeachIntent:
        """Read the form."""
        return TeachIntent(
            self.name.text().strip(),
            self.model.currentText() or TeachConfig.model,
            self.mode.currentData(),
            self.minutes.value(),
            join_classes(self.chosen),
        )

    def _on_source(self, index: int = 0) -> None:
        tell(self.lesson_hint, say_lesson(self.lesson))
        if self.chosen:
            # what the labels were made with is what has to become better
            with QSignalBlocker(self.model):
                self.model.setCurrentText(self.chosen[0].review.config.model)
        self._suggest()
        self.changed.emit()

    def _suggest(self) -> None:
        """Suggest a name that is free, unless the user typed one."""
        if self.name.text() != self._suggested:
            return
        title = self.chosen[0].name.split(" · ")[0] if self.chosen else ""
        self._suggested = suggest_name(title, self._taken) if title else ""
        self.name.setText(self._suggested)
