"""Where the labels go: into memory, or into a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_dinomask.session import OUTPUT_SUFFIX, choose_output, suggest_output
from napari_dinomask.widgets.look import PLAIN_BUTTON, hint, tell

if TYPE_CHECKING:
    from napari_dinomask.session import LayerFacts

LARGE_HINT = "A large image: its labels go to disk, and a run that was stopped goes on there."


class OutputField(QWidget):
    """Choose an output; one is suggested for large images."""

    def __init__(self) -> None:
        super().__init__()
        self._facts: LayerFacts | None = None
        self._suggested = ""
        self.field = QLineEdit()
        self.field.setClearButtonEnabled(True)
        self.field.setPlaceholderText("memory")
        self.field.setToolTip(
            f"A name ending in {OUTPUT_SUFFIX} for the labels, or empty to keep them in memory. "
            "A run with an output can be resumed."
        )
        self.browse = QPushButton("…")
        self.browse.setStyleSheet(PLAIN_BUTTON)
        self.browse.setFixedWidth(32)
        self.browse.setToolTip("Choose a folder and a name")
        self.browse.clicked.connect(self._browse)
        self.note = hint()
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.field, 1)
        row.addWidget(self.browse)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self.note)

    def show_facts(self, facts: LayerFacts | None) -> None:
        """Suggest an output for another layer, unless the user typed one."""
        self._facts = facts
        is_large = facts is not None and facts.is_large
        if self.field.text() == self._suggested:
            self._suggested = str(suggest_output(facts)) if facts and is_large else ""
            self.field.setText(self._suggested)
        tell(self.note, LARGE_HINT if is_large else "")

    def choose(self, facts: LayerFacts) -> Path | None:
        """Return what is chosen; None for memory.

        Raises
        ------
        OutputError
            If it does not fit the layer.
        """
        return choose_output(self.field.text(), facts)

    def _browse(self) -> None:
        start = self.field.text()
        if not start and self._facts is not None:
            start = str(suggest_output(self._facts))
        # an existing one is asked for when the run starts
        chosen, _ = QFileDialog.getSaveFileName(
            self,
            "Save labels to",
            start,
            f"OME-Zarr (*{OUTPUT_SUFFIX})",
            options=QFileDialog.Option.DontConfirmOverwrite,
        )
        if chosen:
            path = Path(chosen)
            if path.suffix.lower() != OUTPUT_SUFFIX:
                path = path.with_name(path.name + OUTPUT_SUFFIX)
            self.field.setText(str(path))
