"""Compares an adapter with what is in use without it, on what the viewer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from dinomask.adapt.shelf import find_base, find_entry
from dinomask.errors import DinomaskError
from dinomask.nets.adapter_manifest import AdapterManifest
from napari_dinomask.comparison import Choice, Comparison, choose_field
from napari_dinomask.wording import say_crash, say_error

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_dinomask.comparison import Compared
    from napari_dinomask.corrections import Review
    from napari_dinomask.widgets.changes_box import ChangesBox
    from napari_dinomask.widgets.run_box import RunBox


class Comparer(QObject):
    """Runs one comparison at a time.

    Parameters
    ----------
    viewer : what it shows is compared
    changes_box : where the result goes
    run_box : where it is followed
    """

    shown = Signal()
    """There is something to see."""

    def __init__(self, viewer: ViewerModel, changes_box: ChangesBox, run_box: RunBox) -> None:
        super().__init__()
        self._viewer = viewer
        self._changes = changes_box
        self._box = run_box
        self.comparison: Comparison | None = None

    def start(self, name: str, review: Review | None) -> None:
        """Compare an adapter with what the labels under review were made with.

        Parameters
        ----------
        name : of the adapter
        review : None takes the active image, and compares with the bare checkpoint
        """
        self.leave()
        try:
            about = find_entry(name, "adapter").manifest
            if not isinstance(about, AdapterManifest):
                return
            field = choose_field(self._viewer, review)
            before = (
                None if review is None or review.config.adapter == name else review.config.adapter
            )
            diameter_px = None if review is None else review.diameter_px
            base = find_base(about)
            comparison = Comparison(
                field,
                Choice(base, before),
                Choice(base, name),
                diameter_px or about.diameter_px or "auto",
            )
        except DinomaskError as error:
            self._box.add_message("error", say_error(error))
            return
        self.follow(comparison)

    def follow(self, comparison: Comparison) -> None:
        """Start a comparison in place of what went on, and show what comes of it."""
        self.leave()
        self.comparison = comparison
        comparison.progressed.connect(self._on_progress)
        comparison.succeeded.connect(self._on_succeeded)
        comparison.failed.connect(lambda error: self._on_failed(say_error(error)))
        comparison.crashed.connect(lambda error: self._on_failed(say_crash(error)))
        comparison.start()

    def leave(self) -> None:
        """Give it up."""
        comparison, self.comparison = self.comparison, None
        if comparison is not None:
            comparison.cancel()
            self._box.stage.hide()

    def _on_progress(self, text: str) -> None:
        self._box.stage.setText(text)
        self._box.stage.show()

    def _on_succeeded(self, compared: Compared) -> None:
        self.leave()
        self._changes.show_compared(compared)
        self.shown.emit()

    def _on_failed(self, text: str) -> None:
        self.leave()
        self._box.add_message("error", text)
