"""The Compress panel: smaller and faster models, and what they cost on the user's own images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from dinomask.errors import DinomaskError
from napari_dinomask.comparison import Choice, Comparison, choose_field, field_of
from napari_dinomask.compressing import say_closing
from napari_dinomask.layers import image_layers
from napari_dinomask.widgets.changes_box import ChangesBox
from napari_dinomask.widgets.comparer import Comparer
from napari_dinomask.widgets.compress_form import CompressForm
from napari_dinomask.widgets.compress_results import ResultsBox
from napari_dinomask.widgets.compress_runner import CompressRunner, plain
from napari_dinomask.widgets.panel import WorkPanel
from napari_dinomask.widgets.run_box import RunBox
from napari_dinomask.widgets.segment import SegmentPanel
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from qtpy.QtWidgets import QWidget

    Row = Mapping[str, Any]

MIN_WIDTH_PX = 360


class CompressPanel(WorkPanel):
    """Compress a model in several ways, and compare them.

    Parameters
    ----------
    napari_viewer : given by napari
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.form = CompressForm()
        self.run_box = RunBox("Compress && compare")
        self.results = ResultsBox()
        self.changes_box = ChangesBox(napari_viewer)
        self.runner = CompressRunner(self.run_box)
        self.comparer = Comparer(napari_viewer, self.changes_box, self.run_box)
        self._arrange()
        self._connect()
        self.form.model_combo.refresh()
        self._ask_for_reasons()
        self._show_start()
        self.runner.follower.look_for_unfinished()

    def _arrange(self) -> None:
        self.fill((self.form, self.run_box, self.results, self.changes_box), MIN_WIDTH_PX)
        self.run_box.pause.setToolTip("Wait; no processor works meanwhile")
        self.run_box.cancel.setToolTip("Stop; what was made and measured is kept")

    def _connect(self) -> None:
        self.form.model_chosen.connect(self._ask_for_reasons)
        self.form.changed.connect(self._show_start)
        self.run_box.start.clicked.connect(self.start)
        self.runner.began.connect(self._show_start)
        self.runner.ended.connect(self._on_ended)
        self.runner.finished.connect(self._on_finished)
        self.runner.reasons_found.connect(self.form.show_reasons)
        self.runner.reasons_failed.connect(lambda error: self.form.show_problem(plain(error)))
        self.results.compare.connect(self._compare)
        self.results.use.connect(self._use)
        self.comparer.shown.connect(lambda: self._scroll_to(self.changes_box))
        events = self.viewer.layers.events
        events.inserted.connect(self._show_start)
        events.removed.connect(self._show_start)

    def start(self) -> None:
        """Compress and compare as the form says."""
        if self.runner.is_busy:
            return
        self.run_box.clear_messages()
        try:
            intent = self.form.intent()
            # told at once, not from the thread
            intent.recipes()
            layers = image_layers(self.viewer) if self.form.from_layers else []
            fields = [field_of(self.viewer, layer) for layer in layers]
        except DinomaskError as error:
            self.run_box.add_message("error", say_error(error))
            return
        self.changes_box.clear()
        self.runner.start(intent.resolve, [field.open for field in fields], self.form.place)

    def _ask_for_reasons(self) -> None:
        self.form.show_asking()
        self.runner.ask_for_reasons(self.form.model_combo.model, self.form.model_combo.adapter)

    def _show_start(self, event: Any = None) -> None:
        is_busy = self.runner.is_busy
        has_images = bool(image_layers(self.viewer)) if self.form.from_layers else self.form.place
        is_ready = bool(self.form.intent().methods) and bool(has_images)
        self.run_box.start.setEnabled(not is_busy and is_ready)
        self.run_box.start.setToolTip("" if is_ready else "Tick a method, and open an image")
        self.form.setEnabled(not is_busy)

    def _on_ended(self) -> None:
        self._show_start()
        # new ones may be there
        self.form.model_combo.refresh()

    def _on_finished(self, report: Row) -> None:
        self.results.show_report(report)
        self._scroll_to(self.results)

    def _compare(self, first: Row, second: Row) -> None:
        """Lay the segmentations of two variants over each other on what is on display."""
        try:
            field = choose_field(self.viewer, None)
        except DinomaskError as error:
            self.run_box.add_message("error", say_error(error))
            return
        choices = (Choice(row["model"], row["adapter"]) for row in (first, second))
        self.comparer.follow(Comparison(field, *choices))

    def _use(self, row: Row) -> None:
        """Choose a variant in the Segment panel, which is opened where there is none."""
        window: Any = getattr(self.viewer, "window", None)
        if window is None:
            return
        panels = self.window().findChildren(SegmentPanel)
        panel = panels[0] if panels else None
        if panel is None:
            _, panel = window.add_plugin_dock_widget("napari-dinomask", "Segment")
        panel.model_combo.choose(_name_of(row["model"]), _name_of(row["adapter"]))
        self.run_box.add_message("info", f"Segment uses <b>{row['name']}</b> now.")

    def _scroll_to(self, widget: QWidget) -> None:
        # once it is laid out anew
        QTimer.singleShot(0, lambda: self.ensureWidgetVisible(widget))

    def question(self) -> tuple[str, str] | None:
        """See `WorkPanel.question`."""
        return say_closing() if self.runner.is_busy else None

    def follow_no_longer(self, *, stop: bool) -> None:
        """See `WorkPanel.follow_no_longer`."""
        self.runner.leave(stop=stop)

    def leave(self) -> None:
        """Follow nothing any more; a study goes on without the panel."""
        events = self.viewer.layers.events
        events.inserted.disconnect(self._show_start)
        events.removed.disconnect(self._show_start)
        self.comparer.leave()
        self.runner.leave()


def _name_of(place: str | None) -> str | None:
    """Return what a model is called in a list; variants are given by their folder."""
    return None if place is None else Path(place).name
