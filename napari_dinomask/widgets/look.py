"""The panels' look: few colours that read well on napari's dark and light themes."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QSizePolicy

ACCENT = "#1c7ed6"

PRIMARY_BUTTON = f"""
QPushButton {{ background-color: {ACCENT}; color: white; font-weight: 600; font-size: 13pt;
              padding: 9px; border-radius: 5px; }}
QPushButton:hover {{ background-color: #339af0; }}
QPushButton:pressed {{ background-color: #1864ab; }}
QPushButton:disabled {{ background-color: rgba(128, 128, 128, 70); color: rgba(160, 160, 160, 180);
                       border: 0px; }}
"""

PLAIN_BUTTON = "QPushButton { padding: 6px; border-radius: 4px; }"

SMALL_BUTTON = "QPushButton { padding: 3px 8px; border-radius: 4px; }"

ACTION_BUTTON = "QPushButton { padding: 4px 10px; border-radius: 4px; font-weight: 600; }"

PROGRESS_BAR = f"""
QProgressBar {{ border: 0px; border-radius: 3px; background-color: rgba(128, 128, 128, 60);
               max-height: 6px; min-height: 6px; }}
QProgressBar::chunk {{ border-radius: 3px; background-color: {ACCENT}; }}
"""

_MESSAGE = """
QLabel {{ background-color: {fill}; border-left: 4px solid {edge}; border-radius: 3px;
         padding: 7px 8px; }}
"""

MESSAGES = {
    "error": _MESSAGE.format(fill="rgba(224, 49, 49, 60)", edge="#e03131"),
    "warning": _MESSAGE.format(fill="rgba(240, 140, 0, 50)", edge="#f08c00"),
    "info": _MESSAGE.format(fill="rgba(128, 128, 128, 40)", edge="#868e96"),
    "result": _MESSAGE.format(fill="rgba(47, 158, 68, 50)", edge="#2f9e44"),
}
"""Style sheets by severity."""


def caption(text: str) -> QLabel:
    """Return the heading of a group of fields."""
    label = QLabel(text)
    label.setStyleSheet("font-weight: 600; margin-top: 6px;")
    return label


def hint(text: str = "") -> QLabel:
    """Return small, dimmed, wrapping text; hidden while empty."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setStyleSheet("color: rgb(128, 128, 128); font-size: 9pt;")
    label.setVisible(bool(text))
    return label


def tell(label: QLabel, text: str) -> None:
    """Set a hint's text; an empty one takes no room."""
    label.setText(text)
    label.setVisible(bool(text))


def message(severity: str, rich_text: str) -> QLabel:
    """Return a coloured, wrapping message that can be selected and copied."""
    label = QLabel(rich_text)
    label.setObjectName(severity)
    label.setTextFormat(Qt.TextFormat.RichText)
    label.setWordWrap(True)
    label.setStyleSheet(MESSAGES[severity])
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
    return label
