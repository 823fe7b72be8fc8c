"""Do the features tell the user's classes apart? And if so: classify all cells by them."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_dinomask.widgets.look import SMALL_BUTTON, caption, hint, message, tell

if TYPE_CHECKING:
    from dinomask.explain.probe import ProbeReport

HINT = "Set the class of some cells of each kind first, at least five of each."


class ProbeBox(QWidget):
    """Tries a probe on the classes that the user gave, and shows how well it does."""

    wanted = Signal()
    """A probe is to be tried."""

    classify = Signal()
    """All cells without a class of the user's are to have the probe's."""

    def __init__(self) -> None:
        super().__init__()
        self.report: ProbeReport | None = None
        self.start = QPushButton("Try to learn my classes")
        self.start.setToolTip("Learns from some of your cells, and is judged on the others")
        self.all = QPushButton("Classify all others")
        self.all.setToolTip(
            "Give every other cell the class it most probably has; one step to undo"
        )
        self.note = message("info", "")
        self.hint = hint()
        tell(self.hint, HINT)
        row = QHBoxLayout()
        row.setSpacing(4)
        for button in (self.start, self.all):
            button.setStyleSheet(SMALL_BUTTON)
            row.addWidget(button, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(caption("Classes"))
        column.addWidget(self.hint)
        column.addLayout(row)
        column.addWidget(self.note)
        self.start.clicked.connect(self.wanted)
        self.all.clicked.connect(self.classify)
        self.show_report(None)

    def show_report(self, report: ProbeReport | None) -> None:
        """Show how well the probe does; nothing without one."""
        self.report = report
        self.all.setEnabled(report is not None)
        tell(self.note, "" if report is None else say_report(report))


def say_report(report: ProbeReport) -> str:
    """Lay a report out as rich text: the result in words, and who was taken for whom."""
    names = [escape(name) for name in report.classes]
    head = "".join(f"<td align='right'>&nbsp;{name}</td>" for name in names)
    rows = [f"<tr><td><i>given \\ taken for</i></td>{head}</tr>"]
    for name, counts in zip(names, report.best.confusion.tolist(), strict=True):
        cells = "".join(f"<td align='right'>{count:,}</td>" for count in counts)
        rows.append(f"<tr><td>{name}</td>{cells}</tr>")
    notes = "".join(f"<br><i>{escape(note)}</i>" for note in report.notes)
    return f"{escape(report.sentence)}{notes}<table>{''.join(rows)}</table>"
