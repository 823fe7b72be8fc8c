"""The Segment and Cancel buttons, the progress, and what came of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_dinomask.widgets.look import PLAIN_BUTTON, PRIMARY_BUTTON, PROGRESS_BAR, hint, message
from napari_dinomask.wording import say_progress

if TYPE_CHECKING:
    from qtpy.QtWidgets import QLabel

    from dinomask.run.progress import Progress


class RunBox(QWidget):
    """Start, follow and stop one run."""

    def __init__(self, verb: str) -> None:
        super().__init__()
        self.start = QPushButton(verb)
        self.start.setStyleSheet(PRIMARY_BUTTON)
        self.cancel = QPushButton("Cancel")
        self.cancel.setStyleSheet(PLAIN_BUTTON)
        self.bar = QProgressBar()
        self.bar.setStyleSheet(PROGRESS_BAR)
        self.bar.setTextVisible(False)
        self.stage = hint()
        self.messages: list[QLabel] = []
        self._message_column = QVBoxLayout()
        self._message_column.setSpacing(4)
        self._arrange()
        self.show_idle(can_start=True)

    def _arrange(self) -> None:
        progress = QVBoxLayout()
        progress.setSpacing(3)
        progress.addWidget(self.bar)
        progress.addWidget(self.stage)
        row = QHBoxLayout()
        row.addLayout(progress, 1)
        row.addWidget(self.cancel)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 6, 0, 0)
        column.setSpacing(6)
        column.addWidget(self.start)
        column.addLayout(row)
        column.addLayout(self._message_column)

    def show_idle(self, can_start: bool) -> None:
        """Get ready for another run."""
        self.start.setEnabled(can_start)
        for widget in (self.cancel, self.bar, self.stage):
            widget.hide()

    def show_running(self) -> None:
        """Show the progress and the way to stop it."""
        self.clear_messages()
        self.start.setEnabled(False)
        self.bar.setRange(0, 0)
        self.stage.setText("Starting…")
        for widget in (self.cancel, self.bar, self.stage):
            widget.show()

    def show_progress(self, progress: Progress) -> None:
        """Show where the run stands."""
        self.bar.setRange(0, progress.total)
        self.bar.setValue(progress.done)
        self.stage.setText(say_progress(progress))

    def add_message(self, severity: str, rich_text: str) -> None:
        """Show one more message below the progress."""
        label = message(severity, rich_text)
        self.messages.append(label)
        self._message_column.addWidget(label)

    def clear_messages(self) -> None:
        """Remove what earlier runs said."""
        for label in self.messages:
            self._message_column.removeWidget(label)
            label.deleteLater()
        self.messages = []
