"""A job followed from a thread, so that no file or process holds up the window."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from qtpy.QtCore import QObject, Signal

from dinomask.errors import DinomaskError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dinomask.jobs.job import Job, JobReport

_T = TypeVar("_T")
POLL_S = 0.2
START_S = 10.0
"""A closing window waits at most so long for a process to be started."""

SEEN_FILE = "seen"
"""Stands in the folder of a job whose end the user has been told."""


class Follower(QObject):
    """Starts jobs and follows one at a time; all slow work is done in its thread.

    Parameters
    ----------
    name : of the thread

    Attributes
    ----------
    job : the one that is followed
    report : where it stood last
    """

    reported = Signal(object)
    """A `JobReport`, while there is a job that isn't over, and once when it is."""

    attached = Signal(object)
    """The `Job` that is followed from now on."""

    failed = Signal(object)
    """A `DinomaskError`: it could not be planned, started, or taken up."""

    crashed = Signal(object)
    """Any other exception."""

    _done = Signal(object, object)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.job: Job[Any, Any] | None = None
        self.report: JobReport[Any, Any] | None = None
        self._done.connect(self._hand_over)
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._left = self._stopped = self._is_starting = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a process works on the job."""
        return self.job is not None and (self.report is None or not self.report.is_over)

    def do(self, work: Callable[[], _T], then: Callable[[_T], None]) -> None:
        """Do something in the thread, and then hand its result over in the GUI's."""

        def task() -> None:
            value = work()
            if not self._left:
                self._done.emit(then, value)

        self._tasks.put(task)

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
            self._tasks.put((job.folder / SEEN_FILE).touch)

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

    def _start(self, begin: Callable[[], Job[Any, Any] | None]) -> None:
        """Start a job in the thread; None is none, as the user has left."""
        self.job, self.report = None, None
        self._is_starting = True

        def work() -> None:
            try:
                job = begin()
                if job is not None:
                    self._follow(job)
            finally:
                self._is_starting = False

        self._tasks.put(work)

    def _follow(self, job: Job[Any, Any]) -> None:
        self.job, self.report = job, None
        self._tell(self.attached, job)

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


def free_folder(home: Path, name: str) -> Path:
    """Return a folder for a job that isn't there yet."""
    stem = name.replace(" ", "_")
    number = 1
    while (home / f"{stem}-{number}").exists():
        number += 1
    return home / f"{stem}-{number}"


def latest_unseen(folders: list[Path]) -> Path | None:
    """Return the first of the jobs' folders whose end the user has not been told."""
    return next((folder for folder in folders if not (folder / SEEN_FILE).exists()), None)
