"""What panels share that follow work in a process of its own: a column, a guard, a way to leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_dinomask.widgets.close_guard import STOP, CloseGuard

if TYPE_CHECKING:
    from collections.abc import Iterable


class WorkPanel(QScrollArea):
    """A column of widgets that asks before its window closes over work that goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.guard = CloseGuard(self, self.question, self._on_answer)
        self._has_left = False

    def fill(self, widgets: Iterable[QWidget], min_width_px: int) -> None:
        """Lay widgets out below each other."""
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(8, 4, 8, 8)
        column.setSpacing(5)
        for widget in widgets:
            column.addWidget(widget)
        column.addStretch(1)
        self.setWidget(body)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(min_width_px)

    def question(self) -> tuple[str, str] | None:
        """Return title and text of what is asked when the window closes; None if nothing is."""
        raise NotImplementedError

    def follow_no_longer(self, *, stop: bool) -> None:
        """Follow the work no longer; it goes on, unless it is to stop."""
        raise NotImplementedError

    def leave(self) -> None:
        """Let go of everything, once, when the panel goes; the work goes on without it."""
        raise NotImplementedError

    def event(self, event: QEvent | None) -> bool:
        """Keep an eye on the window, and leave when napari takes the panel out of its dock."""
        if event is not None and event.type() == QEvent.Type.Show:
            self.guard.watch(self.window())
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._leave_once()
        return super().event(event)

    def closeEvent(self, event: Any) -> None:
        """Leave when the panel is a window of its own."""
        self._leave_once()
        super().closeEvent(event)

    def _on_answer(self, answer: str) -> None:
        self.follow_no_longer(stop=answer == STOP)

    def _leave_once(self) -> None:
        if not self._has_left:
            self._has_left = True
            self.guard.watch(None)
            self.leave()
