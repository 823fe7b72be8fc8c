"""What can be done with all chosen cells at once."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_dinomask.widgets.look import SMALL_BUTTON, caption

_CLASSES = 10


class ChosenBox(QWidget):
    """Buttons for the chosen cells, and to take back what they did."""

    accept = Signal()
    remove = Signal()
    classify = Signal(int)
    """The class of this number."""

    undo = Signal()
    redo = Signal()
    jump = Signal()
    alike = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.accept_button = self._button("Right", "Note that these cells are right as they are")
        self.remove_button = self._button("Delete", "Delete these cells; Undo brings them back")
        self.classes = QComboBox()
        self.classes.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.classify_button = self._button("Set class", "Say that these cells are of this class")
        self.undo_button = self._button("Undo", "Take back what was corrected last")
        self.redo_button = self._button("Redo", "Do it again")
        self.jump_button = self._button("Go there", "Show the chosen cells in the image")
        self.alike_button = self._button(
            "Find cells like these", "Rank all cells by how like the chosen ones they are"
        )
        self._arrange()
        self._connect()
        self.show_classes(())

    @staticmethod
    def _button(text: str, tip: str) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.setStyleSheet(SMALL_BUTTON)
        return button

    def _arrange(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(caption("The chosen cells"))
        for widgets in (
            (self.alike_button, self.jump_button),
            (self.accept_button, self.remove_button, self.undo_button, self.redo_button),
            (self.classes, self.classify_button),
        ):
            row = QHBoxLayout()
            row.setSpacing(4)
            for widget in widgets:
                row.addWidget(widget, 1)
            column.addLayout(row)

    def _connect(self) -> None:
        for button, signal in (
            (self.accept_button, self.accept),
            (self.remove_button, self.remove),
            (self.undo_button, self.undo),
            (self.redo_button, self.redo),
            (self.jump_button, self.jump),
            (self.alike_button, self.alike),
        ):
            button.clicked.connect(signal)
        self.classify_button.clicked.connect(
            lambda: self.classify.emit(self.classes.currentIndex())
        )

    def show_classes(self, names: tuple[str, ...]) -> None:
        """List the classes; those without a name by their number."""
        chosen = max(self.classes.currentIndex(), 0)
        self.classes.clear()
        for number in range(max(_CLASSES, len(names))):
            name = f" · {names[number]}" if number < len(names) else ""
            self.classes.addItem(f"class {number}{name}")
        self.classes.setCurrentIndex(chosen)

    def show_state(self, n_chosen: int, can_undo: bool, can_redo: bool, is_busy: bool) -> None:
        """Enable what can be done now."""
        for button in (self.accept_button, self.remove_button, self.classify_button):
            button.setEnabled(n_chosen > 0 and not is_busy)
        for button in (self.jump_button, self.alike_button):
            button.setEnabled(n_chosen > 0)
        self.undo_button.setEnabled(can_undo and not is_busy)
        self.redo_button.setEnabled(can_redo and not is_busy)
