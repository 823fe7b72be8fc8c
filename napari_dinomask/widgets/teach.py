"""The Teach panel: corrections in, a better model out, while napari stays free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from dinomask.errors import DinomaskError
from napari_dinomask.open_reviews import open_reviews
from napari_dinomask.teach_wording import say_closing, say_plan
from napari_dinomask.teaching import Source
from napari_dinomask.widgets.changes_box import ChangesBox
from napari_dinomask.widgets.comparer import Comparer
from napari_dinomask.widgets.look import message
from napari_dinomask.widgets.panel import WorkPanel
from napari_dinomask.widgets.run_box import RunBox
from napari_dinomask.widgets.shelf_box import ShelfBox
from napari_dinomask.widgets.shelf_keeper import ShelfKeeper
from napari_dinomask.widgets.teach_curves import CurvesBox
from napari_dinomask.widgets.teach_form import TeachForm
from napari_dinomask.widgets.teach_runner import TeachRunner
from napari_dinomask.wording import say_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from dinomask.adapt.progress import Preflight
    from dinomask.adapt.taught import TaughtImage

MIN_WIDTH_PX = 320

LOOK_MS = 1000
"""Time between two looks at what was corrected."""


class TeachPanel(WorkPanel):
    """Teach a model from corrections.

    Parameters
    ----------
    napari_viewer : given by napari
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.form = TeachForm()
        self.plan_note = message("info", "")
        self.run_box = RunBox("Teach")
        self.curves_box = CurvesBox()
        self.changes_box = ChangesBox(napari_viewer)
        self.shelf_box = ShelfBox()
        self.runner = TeachRunner(self.run_box, self.curves_box)
        self.keeper = ShelfKeeper(self.shelf_box, self.runner.teacher, self.run_box)
        self.comparer = Comparer(napari_viewer, self.changes_box, self.run_box)
        self._stamps: list[tuple[str, int]] | None = None
        self._arrange()
        self._connect()
        self._look()
        self.keeper.refresh()
        self.runner.teacher.look_for_unfinished()

    def _arrange(self) -> None:
        column = (
            self.form,
            self.plan_note,
            self.run_box,
            self.curves_box,
            self.changes_box,
            self.shelf_box,
        )
        self.fill(column, MIN_WIDTH_PX)
        self.plan_note.hide()
        self.run_box.pause.setToolTip("Wait after this step; no time counts and no processor works")
        self.run_box.cancel.setToolTip("Save what was learned, and stop")

    def _connect(self) -> None:
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self._look)
        self._timer.start()
        self.form.changed.connect(self._plan)
        self.run_box.start.clicked.connect(self.start)
        self.runner.teacher.planned.connect(self._on_planned)
        self.runner.began.connect(self._show_start)
        self.runner.ended.connect(self._on_ended)
        self.runner.compare_wanted.connect(self._compare)
        self.keeper.shown.connect(self.form.show_taken)
        self.shelf_box.compare.connect(self._compare)
        self.comparer.shown.connect(self._scroll_to_changes)

    def start(self) -> None:
        """Teach what the form says."""
        if self.runner.is_busy:
            return
        try:
            intent = self.form.intent()
            config = intent.resolve()
        except DinomaskError as error:
            self.run_box.clear_messages()
            self.run_box.add_message("error", say_error(error))
            return
        self.changes_box.clear()
        self.runner.start(self._gather(), intent.name, config)

    def _gather(self) -> Callable[[], list[TaughtImage]]:
        sources = self.form.chosen
        return lambda: [image for source in sources for image in source.gather()]

    def _look(self) -> None:
        """Look whether anything was corrected since."""
        sources = [Source(review) for review in open_reviews()]
        stamps = [source.stamp for source in sources]
        if stamps != self._stamps:
            self._stamps = stamps
            self.form.show_sources(sources)

    def _plan(self) -> None:
        """Find out what a teaching would take."""
        self._show_start()
        if self.runner.is_busy:
            return
        if self.form.lesson.is_empty:
            self.plan_note.hide()
            return
        try:
            config = self.form.intent().resolve()
        except DinomaskError:
            # said when it is started
            return
        self.runner.teacher.plan(self._gather(), config)

    def _on_planned(self, plan: Preflight) -> None:
        severity, text = say_plan(plan)
        shown = message(severity, text)
        self.plan_note.setStyleSheet(shown.styleSheet())
        self.plan_note.setObjectName(severity)
        self.plan_note.setText(text)
        self.plan_note.setVisible(not self.runner.is_busy)

    def _show_start(self) -> None:
        is_busy = self.runner.is_busy
        self.run_box.start.setEnabled(not is_busy and not self.form.lesson.is_empty)
        self.form.setEnabled(not is_busy)
        if is_busy:
            self.plan_note.hide()

    def _on_ended(self) -> None:
        self._show_start()
        self.keeper.refresh()

    def _compare(self, name: str) -> None:
        chosen = self.form.chosen
        self.comparer.start(name, chosen[0].review if chosen else None)

    def _scroll_to_changes(self) -> None:
        # once it is laid out anew
        QTimer.singleShot(0, self._show_changes)

    def _show_changes(self) -> None:
        self.ensureWidgetVisible(self.changes_box)

    def question(self) -> tuple[str, str] | None:
        """See `WorkPanel.question`."""
        name = self.runner.name
        return say_closing(name) if self.runner.is_busy and name else None

    def follow_no_longer(self, *, stop: bool) -> None:
        """See `WorkPanel.follow_no_longer`."""
        self.runner.leave(stop=stop)

    def leave(self) -> None:
        """Follow nothing any more; a teaching goes on without the panel."""
        self._timer.stop()
        self.comparer.leave()
        self.runner.leave()
