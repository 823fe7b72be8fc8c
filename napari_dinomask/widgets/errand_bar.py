"""Progress of long work in a tab, and the button that gives it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_dinomask.errand import Errand
from napari_dinomask.objects_wording import say_stage
from napari_dinomask.widgets.look import PLAIN_BUTTON, PROGRESS_BAR, hint, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.run.progress import OnProgress, Progress


class ErrandBar(QWidget):
    """Runs one errand at a time; hidden while there is none."""

    failed = Signal(object)
    """A `DinomaskError`."""

    cancelled = Signal()
    """The user gave it up."""

    changed = Signal()
    """An errand began or ended."""

    def __init__(self) -> None:
        super().__init__()
        self.errand: Errand | None = None
        self.bar = QProgressBar()
        self.bar.setStyleSheet(PROGRESS_BAR)
        self.bar.setTextVisible(False)
        self.stop = QPushButton("Cancel")
        self.stop.setStyleSheet(PLAIN_BUTTON)
        self.stop.clicked.connect(self._on_stop)
        self.stage = hint()
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.stop)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 2, 0, 2)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self.stage)
        self.hide()

    @property
    def is_busy(self) -> bool:
        """Whether there is an errand."""
        return self.errand is not None

    def run(self, work: Callable[[OnProgress], Any], then: Callable[[Any], None]) -> None:
        """Do work in a thread, then hand over what came of it; the errand before is given up."""
        self.give_up()
        errand = self.errand = Errand("dinomask-explain", work)
        errand.progressed.connect(self._show)
        errand.done.connect(lambda result: self._end(lambda: then(result)))
        errand.failed.connect(lambda error: self._end(lambda: self.failed.emit(error)))
        errand.crashed.connect(self._on_crashed)
        self.bar.setRange(0, 0)
        tell(self.stage, "Starting…")
        self.show()
        self.changed.emit()
        errand.start()

    def give_up(self) -> None:
        """Cancel what is under way, without a word."""
        errand, self.errand = self.errand, None
        if errand is not None:
            errand.cancel()
            self.hide()
            self.changed.emit()

    def _show(self, progress: Progress) -> None:
        if self.errand is not None:
            self.bar.setRange(0, progress.total)
            self.bar.setValue(progress.done)
            tell(self.stage, say_stage(progress))

    def _end(self, tell_it: Callable[[], None]) -> None:
        self.errand = None
        self.hide()
        tell_it()
        self.changed.emit()

    def _on_stop(self) -> None:
        self.give_up()
        self.cancelled.emit()

    def _on_crashed(self, error: BaseException) -> None:
        self.errand = None
        self.hide()
        self.changed.emit()
        raise error
