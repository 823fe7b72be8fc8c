"""A handle on work in a process of its own, which outlives the window that started it.

The two sides share nothing but the files of one folder (see `job_files`), so a
job can be followed, paused, stopped and taken up again by any process, also
after a crash of either side.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import time
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import psutil

from dinomask.errors import DinomaskError, EngineError
from dinomask.jobs.beat import Beat, get, get_beat, get_json, put
from dinomask.jobs.files import (
    CONTROL_FILE,
    JOB_FILE,
    LAUNCHED_FILE,
    PROCESS_FILE,
    PROGRESS_FILE,
    RESERVE_BYTES,
    RESERVE_FILE,
    RESULT_FILE,
    problem_from_json,
    write_error,
)
from dinomask.jobs.process import children, spawn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

P = TypeVar("P")
"""What is told on the way."""

R = TypeVar("R")
"""What comes of it."""

JobState = Literal[
    "starting", "running", "paused", "stopping", "finished", "cancelled", "failed", "interrupted"
]

KILL_AFTER_S = 30.0
"""A process that has not stopped so long after it was asked to is ended; its last state stays."""

_SHORT_MEMORY_MB = 400


@dataclasses.dataclass(frozen=True)
class JobReport(Generic[P, R]):
    """Where a job stands."""

    state: JobState
    """What it is at; the last four don't go on by themselves."""

    progress: tuple[P, ...] = ()
    """What was told since the last look; steps begin anew where a crash threw it back."""

    result: R | None = None
    """What came of it; also of a cancelled job, if the best so far could be kept."""

    problem: DinomaskError | None = None
    """Why it failed or was interrupted."""

    silent_s: float = 0.0
    """Seconds since the process gave a sign of life."""

    memory_mb: float = 0.0
    """Memory the process holds."""

    @property
    def is_over(self) -> bool:
        """Whether no process works on it."""
        return self.state in ("finished", "cancelled", "failed", "interrupted")


class Job(Generic[P, R]):
    """A handle on the job in a folder.

    A kind of job is a child of this class, with a worker of its own.

    Parameters
    ----------
    folder : of the job
    work : what its process does, as ``module:function``
    threads : CPU threads of its process; None takes all cores but one
    """

    worker: ClassVar[str]
    """The module that its process runs, see `dinomask.jobs.worker`."""

    noun: ClassVar[str]
    """What it is called in messages, as “the teaching”."""

    def __init__(self, folder: Path, work: str, threads: int | None = None) -> None:
        self.folder = folder
        self._work = work
        self._threads = threads
        self._read_bytes = 0
        self._asked_to_stop = 0.0

    def progress_of(self, raw: dict[str, Any]) -> P:
        """Return a report from the plain values that its process wrote."""
        raise NotImplementedError

    def result_of(self, raw: dict[str, Any]) -> R:
        """Return what came of it from the plain values that its process wrote."""
        raise NotImplementedError

    @property
    def is_alive(self) -> bool:
        """Whether a process works on it."""
        return any(True for _ in self._living())

    def _living(self) -> Iterator[Beat]:
        for file in (PROCESS_FILE, LAUNCHED_FILE):
            beat = get_beat(self.folder / file)
            if beat is None:
                continue
            child = children.get(beat.pid)
            # one's own child is there until it is buried, which asking it does
            is_there = beat.is_alive if child is None else child.poll() is None
            if is_there:
                yield beat

    def launch(self) -> None:
        """Start the process, unless one is at work; it goes on from the last saved state.

        Raises
        ------
        EngineError
            If no process can be started.
        OutputError
            If the folder can't be written.
        """
        if self.is_alive:
            return
        self._asked_to_stop = 0.0
        try:
            for file in (RESULT_FILE, PROCESS_FILE, LAUNCHED_FILE):
                (self.folder / file).unlink(missing_ok=True)
            put(self.folder / CONTROL_FILE, "go on")
            # room for the reason of a full disk
            (self.folder / RESERVE_FILE).write_bytes(b"\0" * RESERVE_BYTES)
        except OSError as error:
            raise write_error(self.folder, error) from error
        process = spawn(self.folder, self.worker, self._work, self._threads)
        with contextlib.suppress(OSError, psutil.Error):
            put(self.folder / LAUNCHED_FILE, json.dumps(dataclasses.asdict(Beat.of(process.pid))))

    def pause(self) -> None:
        """Let the process wait after the step it is at; no time counts until `resume`."""
        self._ask("pause")

    def resume(self) -> None:
        """Go on: after a pause, a stop, a failure or a crash.

        Raises
        ------
        EngineError
            If no process can be started.
        """
        if self.is_alive:
            self._ask("go on")
        else:
            self.launch()

    def cancel(self) -> None:
        """Ask the process to save what it has and to end."""
        self._asked_to_stop = time.monotonic()
        self._ask("cancel")

    def _ask(self, word: str) -> None:
        try:
            put(self.folder / CONTROL_FILE, word)
        except OSError as error:
            raise write_error(self.folder / CONTROL_FILE, error) from error

    def kill(self) -> None:
        """End the process at once; the state it saved last stays."""
        for beat in self._living():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(beat.pid)
                process.kill()
                if beat.pid not in children:
                    process.wait(5)
            if beat.pid in children:
                children[beat.pid].wait(5)

    def discard(self) -> None:
        """End the job and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait(self, timeout_s: float | None = None) -> JobReport[P, R]:
        """Wait until no process works on it, or the time is over."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        told: tuple[P, ...] = ()
        while True:
            report = self.poll()
            told += report.progress
            if report.is_over or (end is not None and time.monotonic() > end):
                return dataclasses.replace(report, progress=told)
            time.sleep(0.05)

    def poll(self) -> JobReport[P, R]:
        """Look where the job stands, from any thread but one at a time."""
        # in this order: a process that ends after the first look has written its result
        living = next(self._living(), None)
        progress = self._new_progress()
        if living is None:
            return self._report_end(progress)
        if self._asked_to_stop and time.monotonic() - self._asked_to_stop > KILL_AFTER_S:
            self.kill()
        state: Any = living.state
        if get_json(self.folder / RESULT_FILE) is not None or self._is_asked_to_stop():
            state = "stopping"
        return JobReport(state, progress, silent_s=living.silent_s, memory_mb=living.memory_mb)

    def _is_asked_to_stop(self) -> bool:
        try:
            return get(self.folder / CONTROL_FILE) == "cancel"
        except OSError:
            return False

    def _report_end(self, progress: tuple[P, ...]) -> JobReport[P, R]:
        raw = get_json(self.folder / RESULT_FILE)
        if raw is None:
            if self._is_asked_to_stop():
                # it was ended before it could say so
                return JobReport("cancelled", progress)
            return JobReport("interrupted", progress, problem=self._why_interrupted())
        result = raw.get("result")
        problem = raw.get("problem")
        return JobReport(
            raw["outcome"],
            progress,
            None if result is None else self.result_of(result),
            None if problem is None else problem_from_json(problem),
        )

    def _new_progress(self) -> tuple[P, ...]:
        try:
            with (self.folder / PROGRESS_FILE).open("rb") as file:
                file.seek(self._read_bytes)
                text = file.read()
        except OSError:
            return ()
        # a line that is being written is read next time
        whole, newline, _ = text.rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        told = []
        for line in whole.splitlines():
            # a crash may have torn one
            with contextlib.suppress(ValueError, TypeError):
                told.append(self.progress_of(json.loads(line)))
        return tuple(told)

    def _why_interrupted(self) -> EngineError:
        beat = get_beat(self.folder / PROCESS_FILE) or get_beat(self.folder / LAUNCHED_FILE)
        if beat is None:
            return EngineError(
                expected=f"{self.noun} to be begun",
                got="none: its process was not started",
                remedy="Go on to start it.",
            )
        child = children.get(beat.pid)
        code = None if child is None else child.poll()
        how = f" (signal {-code})" if code and code < 0 else f" (exit code {code})" if code else ""
        short = 0 < beat.free_mb < max(_SHORT_MEMORY_MB, beat.memory_mb / 5)
        return EngineError(
            expected=f"{self.noun} to end by itself",
            got=f"its process ended in the middle{how}"
            + (f" while only {beat.free_mb:.0f} MB of memory were free" if short else ""),
            remedy=("Close other programs, then go" if short else "Go")
            + " on from the state saved last; nothing else is lost.",
        )


def list_jobs(home: Path) -> list[Path]:
    """Return the folders of all jobs below a folder, the latest first."""
    found = list(home.glob(f"*/{JOB_FILE}")) if home.is_dir() else []
    return [path.parent for path in sorted(found, key=lambda p: p.stat().st_mtime, reverse=True)]
