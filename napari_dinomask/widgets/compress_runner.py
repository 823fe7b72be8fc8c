"""One study from the click to its results: started, followed, stopped, explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from dinomask.compress.reasons import Asker
from napari_dinomask.compress_job import StudyFollower
from napari_dinomask.compressing import say_finished, say_study
from napari_dinomask.wording import say_crash, say_error

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dinomask.compress.job import StudyJob, StudyReport
    from dinomask.errors import DinomaskError
    from dinomask.run.progress import Progress
    from napari_dinomask.compress_job import Open, Resolve
    from napari_dinomask.widgets.run_box import RunBox


class CompressRunner(QObject):
    """Runs one study at a time.

    Parameters
    ----------
    run_box : where the user follows it
    """

    began = Signal()
    """A study goes on from now."""

    ended = Signal()
    """It is over, however it went."""

    finished = Signal(object)
    """The report of one that came to its end."""

    reasons_found = Signal(object)
    """Why methods can't be applied, by their names."""

    reasons_failed = Signal(object)
    """A `DinomaskError`: the model can't be compressed."""

    def __init__(self, run_box: RunBox) -> None:
        super().__init__()
        self._box = run_box
        self.follower = StudyFollower()
        # its own thread: a study that is being started need not wait for an answer
        self._asking = StudyFollower()
        self._asker = Asker()
        self.is_busy = False
        self._last: Progress | None = None
        self.follower.attached.connect(self._on_attached)
        self.follower.reported.connect(self._on_reported)
        self.follower.failed.connect(lambda error: self._on_failed(say_error(error)))
        self.follower.crashed.connect(lambda error: self._on_failed(say_crash(error)))
        self._asking.failed.connect(self.reasons_failed)
        run_box.pause_toggled.connect(self._on_pause)
        run_box.cancel.clicked.connect(self.cancel)
        # a window that closes deletes its panels without telling them
        run_box.destroyed.connect(lambda: self.leave())

    def ask_for_reasons(self, model: str, adapter: str | None) -> None:
        """Find out which methods can't be applied."""

        def tell(found: object) -> None:
            if found is not None:
                self.reasons_found.emit(found)

        self._asker.end()
        self._asking.do(lambda: self._asker.ask(model, adapter), tell)

    def start(self, resolve: Resolve, open_all: Sequence[Open], place: Path | None) -> None:
        """Start a study; see `StudyFollower.start`."""
        if not self.is_busy:
            self._begin()
            self.follower.start(resolve, open_all, place)

    def cancel(self) -> None:
        """Ask it to stop; what was made and measured is kept."""
        self._box.stage.setText("Stopping…")
        self._box.pause.setEnabled(False)
        self._box.cancel.setEnabled(False)
        self.follower.cancel()

    def leave(self, *, stop: bool = False) -> None:
        """Follow it no longer; it goes on, unless it is to stop."""
        self.follower.leave(stop=stop)
        self._asking.leave()
        self._asker.end()

    def _begin(self) -> None:
        self.is_busy, self._last = True, None
        self._box.show_running()
        self._box.pause.setEnabled(True)
        self._box.cancel.setEnabled(True)
        self.began.emit()

    def _finish(self) -> None:
        self.is_busy = False
        self._box.show_idle(can_start=True)
        self._box.clear_messages()
        self.ended.emit()

    def _on_attached(self, job: StudyJob) -> None:
        """Follow a job, perhaps one of an earlier session."""
        if not self.is_busy:
            self._begin()

    def _on_reported(self, report: StudyReport) -> None:
        if not self.is_busy:
            return
        if report.progress:
            self._last = report.progress[-1]
        if report.is_over:
            self._explain(report)
            return
        self._box.stage.setText(say_study(report, self._last))
        if self._last is not None:
            self._box.bar.setRange(0, max(self._last.total, 1))
            self._box.bar.setValue(self._last.done)
        if report.state == "paused" and not self._box.pause.isChecked():
            # by another window, or before this one was opened
            self._box.pause.setChecked(True)

    def _explain(self, report: StudyReport) -> None:
        self._finish()
        if report.state == "finished" and report.result is not None:
            self._box.add_message("result", say_finished(report.result))
            self.follower.mark_seen()
            self.finished.emit(report.result)
            return
        actions = [("Go on", self._resume), ("Discard", self._discard)]
        if report.problem is not None:
            self._box.add_message("error", say_error(report.problem), actions)
            return
        text = "Stopped; what was made and measured is kept."
        self._box.add_message("info", text, actions)

    def _resume(self) -> None:
        self._begin()
        self.follower.resume()

    def _discard(self) -> None:
        self.follower.discard()
        self._box.clear_messages()

    def _on_pause(self, wanted: bool) -> None:
        if wanted:
            self.follower.pause()
        elif self.is_busy:
            self.follower.resume()

    def _on_failed(self, text: str) -> None:
        self._finish()
        self._box.add_message("error", text)


def plain(error: DinomaskError) -> str:
    """Return an error in one line, for a hint."""
    return f"{error.got[:1].upper()}{error.got[1:]}. {error.remedy}"
