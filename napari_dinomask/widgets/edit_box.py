"""Correct labels on disk: the part on display becomes a layer that can be painted on."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from dinomask.errors import DinomaskError
from napari_dinomask.layers import RegionLayer, saved_layers
from napari_dinomask.sending import window_may_be_gone
from napari_dinomask.widgets.look import PLAIN_BUTTON, caption, hint, tell
from napari_dinomask.wording import say_edit_hint, say_editing, say_error

if TYPE_CHECKING:
    from concurrent.futures import Future

    import pandas as pd
    from napari.components import ViewerModel

_WRITE_MS = 200
"""Edits that follow each other this closely are written together."""


class EditBox(QWidget):
    """Edit the labels on disk that the viewer shows; hidden while there are none."""

    failed = Signal(str)
    """What went wrong, as rich text."""

    changed = Signal()
    """Editing began or ended."""

    _written = Signal(object)
    _remeasured = Signal(object, object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self.region: RegionLayer | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="dinomask-edit")
        self._writing: Future[bool] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_WRITE_MS)
        self._timer.timeout.connect(self._write)
        self._written.connect(self._on_written)
        self._remeasured.connect(self._on_remeasured)
        self.note = hint()
        self.edit = QPushButton("Edit this view")
        self.new_cell = QPushButton("New cell")
        self.new_cell.setToolTip("Paint with an id that no cell has (M)")
        self.done = QPushButton("Done")
        self._arrange()
        self.edit.clicked.connect(self.start)
        self.new_cell.clicked.connect(self._take_new_label)
        self.done.clicked.connect(self.finish)
        for event in self._events():
            event.connect(self._show)
        self._show()

    def _arrange(self) -> None:
        row = QHBoxLayout()
        for button in (self.edit, self.new_cell, self.done):
            button.setStyleSheet(PLAIN_BUTTON)
            row.addWidget(button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 6, 0, 0)
        column.setSpacing(4)
        column.addWidget(caption("Labels on disk"))
        column.addWidget(self.note)
        column.addLayout(row)

    def _events(self) -> list[Any]:
        layers = self._viewer.layers
        return [layers.events.inserted, layers.events.removed, layers.selection.events.active]

    def start(self) -> None:
        """Make the part on display a layer that can be painted on."""
        layers = saved_layers(self._viewer)
        if not layers or self.region is not None:
            return
        try:
            self.region = RegionLayer(self._viewer, layers[0], self._timer.start)
        except DinomaskError as error:
            self.failed.emit(say_error(error))
        self._show()
        self.changed.emit()

    def finish(self) -> None:
        """Write what is left to write, and show the whole again."""
        region, self.region = self.region, None
        self._timer.stop()
        if region is not None:
            try:
                self._writer.submit(region.write).result()
            except DinomaskError as error:
                # what could not be written must not be lost
                self.region = region
                self.failed.emit(say_error(error))
                return
            region.close()
            region.refresh_overview()
            # a table of a million objects takes a second
            remeasuring = self._writer.submit(region.remeasure)
            remeasuring.add_done_callback(functools.partial(self._tell_remeasured, region))
        self._show()

    def _tell_remeasured(
        self, region: RegionLayer, remeasuring: Future[pd.DataFrame | None]
    ) -> None:
        with window_may_be_gone():
            self._remeasured.emit(region, remeasuring)

    def _on_remeasured(self, region: RegionLayer, remeasuring: Future[pd.DataFrame | None]) -> None:
        error = remeasuring.exception()
        if isinstance(error, DinomaskError):
            self.failed.emit(say_error(error))
        elif error is not None:
            raise error
        elif (table := remeasuring.result()) is not None:
            region.show_table(table)

    def leave(self) -> None:
        """Write what is left, and stop following the viewer."""
        self.finish()
        for event in self._events():
            event.disconnect(self._show)
        self._writer.shutdown()

    def _write(self) -> None:
        if self._writing is not None and not self._writing.done():
            self._timer.start()
        elif self.region is not None:
            self._writing = self._writer.submit(self.region.write)
            self._writing.add_done_callback(self._written.emit)

    def _on_written(self, writing: Future[bool]) -> None:
        error = writing.exception()
        if isinstance(error, DinomaskError):
            self.failed.emit(say_error(error))
        elif error is not None:
            raise error
        elif writing.result() and self.region is not None:
            self.region.refresh_overview()

    def _take_new_label(self) -> None:
        if self.region is not None:
            try:
                self.region.take_new_label()
            except DinomaskError as error:
                self.failed.emit(say_error(error))

    def _show(self, event: Any = None) -> None:
        """Show what can be done now."""
        if self.region is not None and not self.region.is_open:
            # the user removed the layer: it was written all along
            self.finish()
            return
        layers = saved_layers(self._viewer)
        self.setVisible(bool(layers) or self.region is not None)
        self.edit.setVisible(self.region is None)
        self.new_cell.setVisible(self.region is not None)
        self.done.setVisible(self.region is not None)
        if self.region is not None:
            tell(self.note, say_editing(self.region.window_yxyx_px, self.region.is_whole_view))
        elif layers:
            tell(self.note, say_edit_hint(layers[0].name))
