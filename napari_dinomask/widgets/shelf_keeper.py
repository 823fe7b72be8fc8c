"""What happens on the shelf when its buttons are pressed; all of it in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QMessageBox

from dinomask.adapt import shelf
from dinomask.adapt.promotion import promote, rollback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dinomask.adapt.shelf import Entry
    from napari_dinomask.teach_job import Teacher
    from napari_dinomask.widgets.run_box import RunBox
    from napari_dinomask.widgets.shelf_box import ShelfBox


class ShelfKeeper(QObject):
    """Keeps the shelf's list in step with the disk.

    Parameters
    ----------
    box : the list and its buttons
    teacher : lends its thread
    run_box : where it is told what was done
    """

    shown = Signal(object)
    """The names of all adapters, after they were read again."""

    def __init__(self, box: ShelfBox, teacher: Teacher, run_box: RunBox) -> None:
        super().__init__()
        self._box = box
        self._teacher = teacher
        self._messages = run_box
        box.use.connect(self._use)
        box.roll_back.connect(self._roll_back)
        box.delete.connect(self._delete)

    def refresh(self) -> None:
        """Read the shelf again."""
        self._teacher.do(shelf.list_shelf, self._show)

    def _show(self, entries: Sequence[Entry]) -> None:
        self._box.show_entries(entries)
        self.shown.emit(self._box.names)

    def _then(self, text: str) -> Callable[[object], None]:
        def tell(_: object) -> None:
            self._messages.clear_messages()
            self._messages.add_message("result", text)
            self.refresh()

        return tell

    def _use(self, name: str) -> None:
        self._teacher.do(
            lambda: promote(name, "chosen by hand"), self._then(f"“{name}” is in use now.")
        )

    def _roll_back(self, base_sha256: str) -> None:
        def tell(now: object) -> None:
            what = f"“{now}” is in use again." if now else "The model without adapter is in use."
            self._then(f"Rolled back: {what}")(None)

        self._teacher.do(lambda: rollback(base_sha256, "by hand"), tell)

    def _delete(self, name: str) -> None:
        answer = QMessageBox.question(
            self._box,
            "Delete what was taught",
            f"Delete “{name}” for good? The corrections stay.",
        )
        if answer == QMessageBox.StandardButton.Yes:
            self._teacher.do(
                lambda: shelf.remove(name, "adapter"), self._then(f"“{name}” was deleted.")
            )
