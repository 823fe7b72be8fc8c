"""A teaching followed from a thread, so that no file or process holds up the window."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, TypeVar

from qtpy.QtCore import QObject, Signal

from dinomask.adapt.job import WORK, TeachJob, jobs_folder, list_jobs
from dinomask.adapt.preflight import plan_teaching
from dinomask.errors import DinomaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dinomask.adapt.job import JobReport
    from dinomask.adapt.taught import TaughtImage
    from dinomask.config import TeachConfig

    Gather = Callable[[], Sequence[TaughtImage]]

_T = TypeVar("_T")
POLL_S = 0.2
START_S = 10.0
"""A closing window waits at most so long for a process to be started."""

_SEEN_FILE = "seen"


class Teacher(QObject):
    """Starts teachings and follows one at a time; all slow work is done in its thread.

    Attributes
    ----------
    work : what the process of a job does, as ``module:function``
    job : the one that is followed
    report : where it stood last
    """

    reported = Signal(object)
    """A `JobReport`, while there is a job that isn't over, and once when it is."""

    attached = Signal(object)
    """The `TeachJob` that is followed from now on."""

    planned = Signal(object)
    """The `Preflight` that was asked for last."""

    _done = Signal(object, object)

    failed = Signal(object)
    """A `DinomaskError`: it could not be planned, started, or taken up."""

    crashed = Signal(object)
    """Any other exception."""

    def __init__(self) -> None:
        super().__init__()
        self.work = WORK
        self.job: TeachJob | None = None
        self.report: JobReport | None = None
        self._done.connect(self._hand_over)
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._latest_plan = 0
        self._left = self._stopped = self._is_starting = False
        self._thread = threading.Thread(target=self._serve, name="dinomask-teach", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a process works on the job."""
        return self.job is not None and (self.report is None or not self.report.is_over)

    def look_for_unfinished(self) -> None:
        """Take up the latest job whose end the user has not seen."""
        self._tasks.put(self._take_up_unseen)

    def do(self, work: Callable[[], _T], then: Callable[[_T], None]) -> None:
        """Do something in the thread, and then hand its result over in the GUI's."""

        def task() -> None:
            value = work()
            if not self._left:
                self._done.emit(then, value)

        self._tasks.put(task)

    def plan(self, gather: Gather, config: TeachConfig) -> None:
        """Find out what a teaching would take."""
        self._latest_plan += 1
        number = self._latest_plan

        def work() -> None:
            if number == self._latest_plan:
                self._tell(self.planned, plan_teaching(gather(), config))

        self._tasks.put(work)

    def start(self, gather: Gather, name: str, config: TeachConfig) -> None:
        """Start a teaching.

        Parameters
        ----------
        gather : returns what to learn from; called in the thread
        name : of the adapter
        """
        # a plan that is still wanted would come too late
        self._latest_plan += 1
        self.job, self.report = None, None

        self._is_starting = True

        def work() -> None:
            try:
                taught = gather()
                if not self._stopped:
                    self._follow(self._begin(taught, name, config))
            finally:
                self._is_starting = False

        self._tasks.put(work)

    def resume(self) -> None:
        """Go on after a pause, a stop or a crash."""
        job = self.job
        if job is not None:
            if self.report is not None and self.report.is_over:
                self.report = None
            self._tasks.put(job.resume)

    def pause(self) -> None:
        """Let the process wait."""
        if self.job is not None:
            self._tasks.put(self.job.pause)

    def cancel(self) -> None:
        """Stop the process, which saves what it has."""
        if self.job is not None:
            self._tasks.put(self.job.cancel)

    def discard(self) -> None:
        """Remove the job for good."""
        job, self.job, self.report = self.job, None, None
        if job is not None:
            self._tasks.put(job.discard)

    def mark_seen(self) -> None:
        """Note that the user has been told how the job ended."""
        job = self.job
        if job is not None:
            self._tasks.put((job.folder / _SEEN_FILE).touch)

    def leave(self, *, stop: bool = False) -> None:
        """Follow no longer; the process goes on, unless it is to stop."""
        if self._left:
            return
        self._left, self._stopped = True, stop
        if stop and self.job is not None:
            self.job.cancel()
        self._tasks.put(None)
        if self._is_starting:
            # the process must be there before the thread ends with the program
            self._thread.join(START_S)

    def _hand_over(self, then: Callable[[object], None], value: object) -> None:
        then(value)

    def _begin(self, taught: Sequence[TaughtImage], name: str, config: TeachConfig) -> TeachJob:
        return TeachJob.start(taught, name, config, _free_folder(name), work=self.work)

    def _follow(self, job: TeachJob) -> None:
        self.job, self.report = job, None
        self._tell(self.attached, job)

    def _take_up_unseen(self) -> None:
        for folder in list_jobs():
            if not (folder / _SEEN_FILE).exists():
                self._follow(TeachJob.attach(folder, work=self.work))
                return

    def _serve(self) -> None:
        while True:
            try:
                task = self._tasks.get(timeout=POLL_S)
                if task is None:
                    return
                task()
            except queue.Empty:
                self._poll()
            except DinomaskError as error:
                self._tell(self.failed, error)
            except Exception as error:  # noqa: BLE001 - shown by the panel
                self._tell(self.crashed, error)

    def _poll(self) -> None:
        job = self.job
        if job is None or not self.is_busy or self._left:
            return
        report = job.poll()
        if job is self.job and not self._left:
            self.report = report
            self._tell(self.reported, report)

    def _tell(self, signal: Signal, value: object) -> None:
        if self._left:
            return
        try:
            signal.emit(value)
        except RuntimeError:
            # the window is gone
            self._left = True


def _free_folder(name: str) -> Path:
    """Return a folder for a job that isn't there yet."""
    home = jobs_folder()
    stem = name.replace(" ", "_")
    number = 1
    while (home / f"{stem}-{number}").exists():
        number += 1
    return home / f"{stem}-{number}"
