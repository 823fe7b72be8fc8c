"""Asks before a window closes over work that goes on."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QMainWindow, QMessageBox, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable

GO_ON, STOP, STAY = "Let it go on", "Stop it", "Keep napari open"


def ask(parent: QWidget, title: str, text: str) -> str:
    """Return which of the three the user chooses."""
    box = QMessageBox(QMessageBox.Icon.Question, title, text, parent=parent)
    buttons = {
        GO_ON: box.addButton(GO_ON, QMessageBox.ButtonRole.AcceptRole),
        STOP: box.addButton(STOP, QMessageBox.ButtonRole.DestructiveRole),
        STAY: box.addButton(STAY, QMessageBox.ButtonRole.RejectRole),
    }
    box.setDefaultButton(buttons[GO_ON])
    box.setEscapeButton(buttons[STAY])
    box.exec()
    return next((text for text, b in buttons.items() if b is box.clickedButton()), STAY)


def _is_gone(window: QWidget | None) -> bool:
    """Tell whether napari has taken the canvas away already, as `Viewer.close` does first."""
    if not isinstance(window, QMainWindow) or window.centralWidget() is None:
        return window is None
    parts = window.centralWidget().findChildren(
        QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly
    )
    return bool(parts) and all(part.isHidden() for part in parts)


class CloseGuard(QObject):
    """Watches the window that a panel is in.

    Parameters
    ----------
    panel : whose window it is; may move from one to another
    question : a method that returns title and text, or None if there is nothing to ask
    answer : a method that is told `GO_ON` or `STOP`; the window closes then
    """

    def __init__(
        self,
        panel: QWidget,
        question: Callable[[], tuple[str, str] | None],
        answer: Callable[[str], None],
    ) -> None:
        super().__init__(panel)
        # the panel owns the guard, and must not be kept alive by it
        self._question = weakref.WeakMethod(question)
        self._answer = weakref.WeakMethod(answer)
        self._window: weakref.ref[QWidget] | None = None

    @property
    def window(self) -> QWidget | None:
        """The window that is watched."""
        return None if self._window is None else self._window()

    def watch(self, window: QWidget | None) -> None:
        """Watch another window."""
        before = self.window
        if window is before:
            return
        if before is not None:
            before.removeEventFilter(self)
        # closed, it must not be kept by a panel that is still to be deleted
        self._window = None if window is None else weakref.ref(window)
        if window is not None:
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Hold a closing window up until the user has answered."""
        window = self.window
        if event is None or event.type() != QEvent.Type.Close or watched is not window:
            return False
        if _is_gone(window):
            # closed by a program, which can't be asked
            return False
        ask_panel, tell_panel = self._question(), self._answer()
        question = ask_panel() if ask_panel is not None else None
        if question is None or tell_panel is None or window is None:
            return False
        chosen = ask(window, *question)
        if chosen == STAY:
            event.ignore()
            return True
        tell_panel(chosen)
        return False
