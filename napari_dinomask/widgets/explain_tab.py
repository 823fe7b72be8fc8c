"""What every tab of the Explain panel has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_dinomask.widgets.look import MESSAGES, message, tell

if TYPE_CHECKING:
    from napari_dinomask.widgets.explain_target import ExplainTarget


class ExplainTab(QWidget):
    """A tab that is told what to look at.

    A tab takes the mouse only between `activate` and `deactivate`.

    Attributes
    ----------
    title : on the tab
    target : what to look at; None if there is no image, or its plane can't be told
    column : where the tab puts its widgets
    note : one message, of any severity
    """

    title = ""

    def __init__(self) -> None:
        super().__init__()
        self.target: ExplainTarget | None = None
        self.note = message("info", "")
        self.note.hide()
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(6, 6, 6, 6)
        self.column.setSpacing(5)

    @property
    def is_busy(self) -> bool:
        """Whether something was asked for that is not shown yet."""
        return False

    def show_target(self, target: ExplainTarget | None) -> None:
        """Look at something else; what was shown of the one before goes."""
        self.target = target

    def activate(self) -> None:
        """Take the mouse: the tab is in front."""

    def deactivate(self) -> None:
        """Let go of the mouse: another tab is in front."""

    def leave(self) -> None:
        """Give up all work: the panel goes."""
        self.deactivate()

    def say(self, severity: str, text: str) -> None:
        """Show one message in the place of the one before; nothing if it is empty."""
        self.note.setObjectName(severity)
        self.note.setStyleSheet(MESSAGES[severity])
        tell(self.note, text)


class TabArea(QScrollArea):
    """Scrolls a tab up and down; as wide as the tab needs, so that the bar covers nothing.

    Parameters
    ----------
    tab : what is scrolled
    """

    def __init__(self, tab: ExplainTab) -> None:
        super().__init__()
        self.setWidget(tab)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._fit()

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Follow the tab when it shows other widgets."""
        if event.type() == QEvent.Type.LayoutRequest and watched is self.widget():
            self._fit()
        return bool(super().eventFilter(watched, event))

    def _fit(self) -> None:
        tab, bar = self.widget(), self.verticalScrollBar()
        if tab is not None and bar is not None:
            self.setMinimumWidth(tab.minimumSizeHint().width() + bar.sizeHint().width())
