"""What the process of any job does beside its work: gives signs of life, tells, and obeys.

A kind of job has a module that is run as ``python -m MODULE FOLDER module:function``.
Imports neither napari nor Qt; torch is imported by what it calls.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock, Timeout

from dinomask.errors import CancelledError, DinomaskError, EngineError
from dinomask.jobs.beat import Beat, get, put
from dinomask.jobs.files import (
    CONTROL_FILE,
    LOCK_FILE,
    PROCESS_FILE,
    PROGRESS_FILE,
    RESERVE_FILE,
    RESULT_FILE,
    problem_to_json,
    write_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import DataclassInstance

    Do = Callable[["Reporter"], dict[str, Any]]
    """What a kind of job does; returns its result as plain values."""

BEAT_S = 1.0
"""Time between two signs of life."""

REPORT_S = 0.2
"""Reports that follow each other more closely are not all written."""

CANCEL_S = 0.8
"""A step that ends within this time is waited for when the user wants to stop; what a longer
one learned is lost, and all that was saved is kept."""

_LOOK_S = 0.05
_NICENESS = 10
_OK, _FAILED, _TAKEN = 0, 1, 3
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Reporter:
    """Tells how the work goes, and obeys.

    Parameters
    ----------
    folder : of the job
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = "starting"
        self._reported: tuple[str, float] = ("", 0.0)
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._ending = threading.Lock()
        self.is_terminated = False
        self._beat()
        self._heart = threading.Thread(target=self._beat_on, name="heart", daemon=True)
        self._heart.start()

    def tell(self, progress: DataclassInstance, stage: str, *, notable: bool = False) -> None:
        """Take a report of the work; hold it up while paused.

        Parameters
        ----------
        progress : anything that json can hold
        stage : the first report of each is written at once
        notable : whether this one must not be left out, however closely it follows another

        Raises
        ------
        CancelledError
            If the user, or the system, wants it to end.
        """
        if self._state == "starting":
            self._enter("running")
        self._report(progress, stage, notable)
        if self._wish() == "pause":
            self._enter("paused")
            while self._wish() == "pause":
                time.sleep(_LOOK_S)
            self._enter("running")
        self.require_wanted()

    def require_wanted(self) -> None:
        """Raise `CancelledError` if the work is to end."""
        if self._wish() == "cancel":
            with self._ending:
                self._enter("stopping")
            raise CancelledError(
                expected="the work to go on",
                got="a wish to stop it",
                remedy="Go on to take it up where it stopped.",
            )

    def close(self) -> None:
        """Give no more signs of life."""
        with self._ending:
            self._ended.set()
        self._heart.join()

    def _wish(self) -> str:
        if self.is_terminated:
            return "cancel"
        try:
            return get(self._folder / CONTROL_FILE).strip()
        except OSError:
            return "go on"

    def _report(self, progress: DataclassInstance, stage: str, notable: bool) -> None:
        before, told = self._reported
        now = time.monotonic()
        if stage == before and now - told < REPORT_S and not notable:
            return
        self._reported = (stage, now)
        try:
            with (self._folder / PROGRESS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(dataclasses.asdict(progress)) + "\n")
        except OSError as error:
            raise write_error(self._folder / PROGRESS_FILE, error) from error

    def _enter(self, state: str) -> None:
        self._state = state
        self._beat()

    def _beat(self) -> None:
        # a full disk must not end the work for want of a sign of life
        with self._writing, contextlib.suppress(OSError, psutil.Error):
            beat = Beat.of(os.getpid(), self._state)
            put(self._folder / PROCESS_FILE, json.dumps(dataclasses.asdict(beat)))

    def _beat_on(self) -> None:
        beaten = asked = time.monotonic()
        while not self._ended.wait(_LOOK_S):
            now = time.monotonic()
            if self._wish() != "cancel":
                asked = now
            elif now - asked > CANCEL_S:
                self._end_at_once()
            if now - beaten > BEAT_S:
                beaten = now
                self._beat()

    def _end_at_once(self) -> None:
        """End the process in the middle of a step, unless it is saving already."""
        with self._ending:
            if self._state == "stopping" or self._ended.is_set() or self.is_terminated:
                return
            write_end(self._folder, {"outcome": "cancelled"})
            os._exit(_OK)


def run(folder: Path, do: Do, plain: Callable[[Any], dict[str, Any]] = dict) -> int:
    """Do the work of a job, and write how it ended.

    Parameters
    ----------
    folder : of the job
    do : the work
    plain : turns the result that a `CancelledError` brings along into plain values

    Returns
    -------
    exit code of the process
    """
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        # another process is at it
        return _TAKEN
    with lock:
        _step_back()
        reporter = Reporter(folder)
        signal.signal(signal.SIGTERM, lambda *_: setattr(reporter, "is_terminated", True))
        ended = _end_of(folder, do, plain, reporter)
        reporter.close()
        if reporter.is_terminated and ended["outcome"] == "cancelled":
            # the system wanted it, not the user: to be taken up again
            return _FAILED
        write_end(folder, ended)
        return _FAILED if ended["outcome"] == "failed" else _OK


def _end_of(
    folder: Path, do: Do, plain: Callable[[Any], dict[str, Any]], reporter: Reporter
) -> dict[str, Any]:
    try:
        return {"outcome": "finished", "result": do(reporter)}
    except CancelledError as error:
        best = getattr(error, "result", None)
        return {"outcome": "cancelled", "result": None if best is None else plain(best)}
    except Exception as error:  # noqa: BLE001 - whatever it is must reach the user
        traceback.print_exc()
        return {"outcome": "failed", "problem": problem_to_json(_as_problem(folder, error))}


def _as_problem(folder: Path, error: Exception) -> DinomaskError:
    """Say what an error means for the user."""
    if isinstance(error, DinomaskError):
        return error
    text = str(error)
    name = type(error).__name__
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _NO_MEMORY):
        free_mb = psutil.virtual_memory().available / 2**20
        return EngineError(
            expected="enough memory for the work",
            got=f"none left ({free_mb:,.0f} MB are free)",
            remedy="Close other programs, or choose what needs less, then go on.",
        )
    if isinstance(error, OSError):
        return write_error(Path(error.filename or folder), error)
    return EngineError(
        expected="the work to go through",
        got=f"{name}: {text}",
        remedy=f"The details are in {folder / 'worker.log'}; please report them.",
    )


def write_end(folder: Path, ended: dict[str, Any]) -> None:
    """Write how a job ended, also on a full disk."""
    try:
        # its room is what a full disk has left
        (folder / RESERVE_FILE).unlink(missing_ok=True)
        put(folder / RESULT_FILE, json.dumps(ended, indent=1, default=str), durable=True)
    except OSError:
        traceback.print_exc()


def find_work(work: str) -> Any:
    """Return the function that is named as ``module:function``."""
    module, _, function = work.partition(":")
    return getattr(importlib.import_module(module), function)


def _step_back() -> None:
    """Leave other programs the first choice of the processor."""
    with contextlib.suppress(psutil.Error, OSError):
        windows = getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", None)
        psutil.Process().nice(_NICENESS if windows is None else windows)
