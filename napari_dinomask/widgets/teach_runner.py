"""One teaching from the click to the verdict: started, followed, stopped, explained."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_dinomask.teach_job import Teacher
from napari_dinomask.teach_wording import say_stopped, say_teaching, say_unfinished, say_verdict
from napari_dinomask.teaching import Curves
from napari_dinomask.wording import say_crash, say_error

if TYPE_CHECKING:
    from dinomask.adapt.job import JobReport, TeachJob
    from dinomask.config import TeachConfig
    from dinomask.errors import DinomaskError
    from napari_dinomask.teach_job import Gather
    from napari_dinomask.widgets.run_box import RunBox
    from napari_dinomask.widgets.teach_curves import CurvesBox

DRAW_S = 0.5
"""Curves are not drawn more often than this."""

_BAR = 1000


class TeachRunner(QObject):
    """Runs one teaching at a time.

    Parameters
    ----------
    run_box : where the user follows it
    curves_box : where its curves are drawn

    Attributes
    ----------
    teacher : does the slow work
    curves : of the job that is followed
    """

    began = Signal()
    """A teaching goes on from now."""

    ended = Signal()
    """It is over, however it went."""

    compare_wanted = Signal(str)
    """The adapter of this name is to be compared with what was before."""

    def __init__(self, run_box: RunBox, curves_box: CurvesBox) -> None:
        super().__init__()
        self._box = run_box
        self._curves_box = curves_box
        self.teacher = Teacher()
        self.curves = Curves()
        self.name = ""
        self.is_busy = False
        self._drawn = 0.0
        self.teacher.attached.connect(self._on_attached)
        self.teacher.reported.connect(self._on_reported)
        self.teacher.failed.connect(self._on_failed)
        self.teacher.crashed.connect(self._on_crashed)
        run_box.pause_toggled.connect(self._on_pause)
        run_box.cancel.clicked.connect(self.cancel)
        # a window that closes deletes its panels without telling them
        run_box.destroyed.connect(lambda: self.leave())

    def start(self, gather: Gather, name: str, config: TeachConfig) -> None:
        """Start a teaching."""
        if not self.is_busy:
            self._begin(name)
            self.teacher.start(gather, name, config)

    def cancel(self) -> None:
        """Ask it to stop; what it learned so far is kept."""
        self._box.stage.setText("Stopping…")
        self._box.pause.setEnabled(False)
        self._box.cancel.setEnabled(False)
        self.teacher.cancel()

    def leave(self, *, stop: bool = False) -> None:
        """Follow it no longer; it goes on, unless it is to stop."""
        self.teacher.leave(stop=stop)

    def _begin(self, name: str) -> None:
        self.name, self.is_busy = name, True
        self.curves = Curves()
        self._curves_box.show_curves(self.curves)
        self._show_running()

    def _show_running(self) -> None:
        self._box.show_running()
        self._box.pause.setEnabled(True)
        self._box.cancel.setEnabled(True)
        self.began.emit()

    def _finish(self) -> None:
        self.is_busy = False
        self._box.show_idle(can_start=True)
        self._box.clear_messages()
        self._draw()
        self.ended.emit()

    def _on_attached(self, job: TeachJob) -> None:
        """Follow a job, perhaps one of an earlier session."""
        if not self.is_busy:
            self._begin(job.inputs.name)

    def _on_reported(self, report: JobReport) -> None:
        if not self.is_busy:
            return
        if self.curves.take(report.progress) and time.monotonic() - self._drawn > DRAW_S:
            self._draw()
        if report.is_over:
            self._explain(report)
            return
        last = self.curves.last
        self._box.stage.setText(say_teaching(report, last))
        if last is not None:
            self._box.bar.setRange(0, _BAR)
            self._box.bar.setValue(round(_BAR * last.fraction))
        if (report.state == "paused") and not self._box.pause.isChecked():
            # by another window, or before this one was opened
            self._box.pause.setChecked(True)

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._curves_box.show_curves(self.curves)

    def _explain(self, report: JobReport) -> None:
        name, last = self.name, self.curves.last
        self._finish()
        again = ("Go on", self._resume)
        forget = ("Discard", self._discard)
        if report.state == "finished" and report.result is not None:
            severity = "result" if report.result.promoted else "warning"
            folder = report.result.folder.name
            compare = ("Before | after", functools.partial(self.compare_wanted.emit, folder))
            self._box.add_message(severity, say_verdict(folder, report.result), [compare])
            self.teacher.mark_seen()
        elif report.state == "cancelled":
            self._box.add_message("info", say_stopped(name, report, last), [again, forget])
        else:
            if report.state == "interrupted":
                self._box.add_message("warning", say_unfinished(name))
            text = "" if report.problem is None else say_error(report.problem)
            self._box.add_message("error", text, [again, forget])

    def _resume(self) -> None:
        if not self.is_busy:
            self.is_busy = True
            self._show_running()
            self.teacher.resume()

    def _discard(self) -> None:
        self._box.clear_messages()
        self.curves = Curves()
        self._draw()
        self.teacher.discard()

    def _on_pause(self, wanted: bool) -> None:
        if self.is_busy:
            (self.teacher.pause if wanted else self.teacher.resume)()

    def _on_failed(self, error: DinomaskError) -> None:
        # a plan may fail while a teaching goes on
        if self.is_busy and self.teacher.job is None:
            self._finish()
        self._box.add_message("error", say_error(error))

    def _on_crashed(self, error: BaseException) -> None:
        if self.is_busy and self.teacher.job is None:
            self._finish()
        self._box.add_message("error", say_crash(error))
