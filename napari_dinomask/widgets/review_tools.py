"""The tools of a review as buttons with their keys."""

from __future__ import annotations

import functools

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QVBoxLayout, QWidget

from napari_dinomask.review_actions import TOOLS, find
from napari_dinomask.widgets.look import ACCENT, hint, tell

_A_ROW = 4

_TOOL_BUTTON = f"""
QPushButton {{ padding: 6px 2px; border-radius: 4px; }}
QPushButton:checked {{ background-color: {ACCENT}; color: white; font-weight: 600; }}
"""


class ToolBox(QWidget):
    """Choose the tool in hand."""

    chosen = Signal(str)
    """Name of the tool that was clicked."""

    def __init__(self) -> None:
        super().__init__()
        self.buttons: dict[str, QPushButton] = {}
        self.note = hint()
        grid = QGridLayout()
        grid.setSpacing(4)
        for i, tool in enumerate(TOOLS):
            button = QPushButton(f"{tool.title}  {tool.shown_key}")
            button.setCheckable(True)
            button.setToolTip(tool.hint)
            button.setStyleSheet(_TOOL_BUTTON)
            # keys go to the canvas
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            button.clicked.connect(functools.partial(self._on_clicked, tool.name))
            grid.addWidget(button, i // _A_ROW, i % _A_ROW)
            self.buttons[tool.name] = button
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(grid)
        column.addWidget(self.note)

    def show_tool(self, name: str) -> None:
        """Show which tool is in hand, and how it is used."""
        for tool, button in self.buttons.items():
            button.setChecked(tool == name)
        tell(self.note, find(name).hint)

    def _on_clicked(self, name: str, checked: bool = False) -> None:
        self.chosen.emit(name)
