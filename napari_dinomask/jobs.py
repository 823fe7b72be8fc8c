"""Work in threads: started from a panel, followed by signals, cancelled at once."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal

from dinomask.errors import CancelledError, DinomaskError
from dinomask.image.doctor import examine, require_usable
from dinomask.run.progress import Progress
from napari_dinomask.network import network

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.config import SegmentConfig
    from dinomask.image.source import Image
    from dinomask.run.segment import Segmentation

_POLL_S = 0.1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a worker hands over: a segmentation or the reason for none."""

    segmentation: Segmentation | None
    error: DinomaskError | None
    elapsed_s: float


class SegmentJob(QObject):
    """One segmentation in a thread.

    Exactly one of `succeeded`, `failed` and `crashed` is emitted, in the GUI's
    thread, unless the job is cancelled: then none is, ever.

    Parameters
    ----------
    open_source : opens the image; called in the thread
    config : settings of the run
    title : what napari says when it asks whether to close in the middle
    """

    progressed = Signal(object)
    """A `Progress`."""

    succeeded = Signal(object)
    """An `Outcome` with a segmentation."""

    failed = Signal(object)
    """A `DinomaskError`, which the user can mend."""

    crashed = Signal(object)
    """Any other exception; napari shows its traceback."""

    def __init__(self, open_source: Callable[[], Image], config: SegmentConfig, title: str) -> None:
        super().__init__()
        self._live = True
        self._task = _Task(open_source, config, title, self._report)
        self._worker: Any = create_worker(self._task, _start_thread=False)
        self._worker.returned.connect(self._on_returned)
        self._worker.errored.connect(self._on_errored)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def cancel(self) -> None:
        """Give the job up at once.

        The thread ends after the tile it is at, and its result is dropped.
        """
        self._live = False
        self._task.stopped.set()
        self._worker.quit()

    def _report(self, progress: Progress) -> None:
        if self._worker.abort_requested:
            self._task.stopped.set()
        if not self._task.stopped.is_set():
            self.progressed.emit(progress)

    def _on_returned(self, outcome: Outcome) -> None:
        if not self._live or isinstance(outcome.error, CancelledError):
            return
        if outcome.error is not None:
            self.failed.emit(outcome.error)
        else:
            self.succeeded.emit(outcome)

    def _on_errored(self, error: BaseException) -> None:
        if self._live:
            self.crashed.emit(error)


class _Task:
    """What runs in the thread; its text is what napari shows of it."""

    def __init__(
        self,
        open_source: Callable[[], Image],
        config: SegmentConfig,
        title: str,
        report: Callable[[Progress], None],
    ) -> None:
        self.open_source = open_source
        self.config = config
        self.title = title
        self.report = report
        self.stopped = threading.Event()

    def __str__(self) -> str:
        return self.title

    def __call__(self) -> Outcome:
        started = time.monotonic()
        try:
            segmentation = self._run()
        except DinomaskError as error:
            return Outcome(None, error, time.monotonic() - started)
        return Outcome(segmentation, None, time.monotonic() - started)

    def _run(self) -> Segmentation:
        self._tell("open")
        image = self.open_source()
        # seconds before the network could say the same
        require_usable(examine(image))
        self._take_turn()
        try:
            self._tell("load")
            network.load(self.config)
            return network.segment(image, self.config, self._on_progress)
        finally:
            network.turn.release()

    def _take_turn(self) -> None:
        """Wait until a run that was given up has left the network."""
        while not network.turn.acquire(timeout=_POLL_S):
            self._tell("wait")

    def _tell(self, stage: str) -> None:
        self._on_progress(Progress(stage, 0, 0, 0.0))

    def _on_progress(self, progress: Progress) -> None:
        self.report(progress)
        if self.stopped.is_set():
            raise CancelledError(
                expected="the run to go on",
                got="a cancelled run",
                remedy="Press Segment to start again.",
            )
