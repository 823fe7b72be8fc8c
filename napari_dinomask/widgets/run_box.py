"""The buttons of a run, its progress, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_dinomask.widgets.look import (
    ACTION_BUTTON,
    PLAIN_BUTTON,
    PRIMARY_BUTTON,
    PROGRESS_BAR,
    hint,
    message,
)
from napari_dinomask.wording import say_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qtpy.QtWidgets import QLabel

    from dinomask.run.progress import Progress

    Action = tuple[str, Callable[[], None]]

_ACTIONS_A_ROW = 3


class RunBox(QWidget):
    """Start, follow, pause and stop one run."""

    pause_toggled = Signal(bool)
    """The user wants the run to wait, or to go on."""

    def __init__(self, verb: str) -> None:
        super().__init__()
        self.start = QPushButton(verb)
        self.start.setStyleSheet(PRIMARY_BUTTON)
        self.pause = QPushButton("Pause")
        self.pause.setCheckable(True)
        self.pause.setToolTip("Wait, and let other runs go first")
        self.pause.toggled.connect(self._on_pause)
        self.cancel = QPushButton("Cancel")
        for button in (self.pause, self.cancel):
            button.setStyleSheet(PLAIN_BUTTON)
        self.bar = QProgressBar()
        self.bar.setStyleSheet(PROGRESS_BAR)
        self.bar.setTextVisible(False)
        self.stage = hint()
        self.messages: list[QLabel] = []
        self.actions: list[QPushButton] = []
        self._rows: list[QWidget] = []
        self._n_px = 0
        self._message_column = QVBoxLayout()
        self._message_column.setSpacing(4)
        self._arrange()
        self.show_idle(can_start=True)

    def _arrange(self) -> None:
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.pause)
        row.addWidget(self.cancel)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 6, 0, 0)
        column.setSpacing(6)
        column.addWidget(self.start)
        column.addLayout(row)
        column.addWidget(self.stage)
        column.addLayout(self._message_column)

    def _on_pause(self, wanted: bool) -> None:
        self.pause.setText("Resume" if wanted else "Pause")
        self.pause_toggled.emit(wanted)

    def show_idle(self, can_start: bool) -> None:
        """Get ready for another run."""
        self.start.setEnabled(can_start)
        self.pause.setChecked(False)
        for widget in (self.pause, self.cancel, self.bar, self.stage):
            widget.hide()

    def show_running(self, n_px: int = 0) -> None:
        """Show the progress and the ways to stop it, for an image of so many pixels."""
        self.clear_messages()
        self._n_px = n_px
        self.start.setEnabled(False)
        self.bar.setRange(0, 0)
        self.stage.setText("Starting…")
        for widget in (self.pause, self.cancel, self.bar, self.stage):
            widget.show()

    def show_progress(self, progress: Progress) -> None:
        """Show where the run stands."""
        self.bar.setRange(0, progress.total)
        self.bar.setValue(progress.done)
        self.stage.setText(say_progress(progress, self._n_px))

    def add_message(self, severity: str, rich_text: str, actions: Sequence[Action] = ()) -> None:
        """Show one more message below the progress, with buttons for what can be done."""
        label = message(severity, rich_text)
        self.messages.append(label)
        self._message_column.addWidget(label)
        for first in range(0, len(actions), _ACTIONS_A_ROW):
            self._add_actions(actions[first : first + _ACTIONS_A_ROW])

    def _add_actions(self, actions: Sequence[Action]) -> None:
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 2)
        line.setSpacing(4)
        for text, act in actions:
            button = QPushButton(text)
            button.setStyleSheet(ACTION_BUTTON)
            button.clicked.connect(lambda _=False, act=act: act())
            line.addWidget(button)
            self.actions.append(button)
        line.addStretch(1)
        self._rows.append(row)
        self._message_column.addWidget(row)

    def clear_messages(self) -> None:
        """Remove what earlier runs said."""
        for widget in (*self.messages, *self._rows):
            self._message_column.removeWidget(widget)
            # one of its buttons may be the sender
            widget.hide()
            widget.deleteLater()
        self.messages, self._rows, self.actions = [], [], []
