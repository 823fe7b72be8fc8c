"""Work in threads: started from a panel, followed by signals, paused, cancelled at once."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, Signal

from dinomask.errors import CancelledError, DinomaskError
from dinomask.image.doctor import examine, require_usable
from dinomask.image.stack import Stack, examine_stack
from dinomask.run.progress import Progress
from napari_dinomask.live import LiveTiles
from napari_dinomask.network import network
from napari_dinomask.sending import window_may_be_gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.image.source import Image
    from dinomask.run.planes import StackSegmentation
    from dinomask.run.segment import Segmentation
    from napari_dinomask.session import RunRequest

_POLL_S = 0.1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a worker hands over: a segmentation or the reason for none."""

    segmentation: Segmentation | StackSegmentation | None
    error: DinomaskError | None
    elapsed_s: float


class SegmentJob(QObject):
    """One segmentation in a thread.

    Exactly one of `succeeded`, `failed` and `crashed` is emitted, in the GUI's
    thread, unless the job is cancelled: then none is, ever.

    Parameters
    ----------
    open_source : opens the image, or all planes of a stack; called in the thread
    request : what to do with it
    title : what napari says when it asks whether to close in the middle

    Attributes
    ----------
    request : as given
    progress : what was told last
    """

    progressed = Signal(object)
    """A `Progress`."""

    tiles_drawn = Signal(object)
    """The run's `Preview`, after more tiles were drawn into it."""

    succeeded = Signal(object)
    """An `Outcome` with a segmentation."""

    failed = Signal(object)
    """A `DinomaskError`, which the user can mend."""

    crashed = Signal(object)
    """Any other exception; napari shows its traceback."""

    def __init__(
        self, open_source: Callable[[], Image | Stack], request: RunRequest, title: str
    ) -> None:
        super().__init__()
        self.request = request
        self.progress: Progress | None = None
        self._live = True
        self._tiles = LiveTiles(self._tell_drawn)
        self._task = _Task(open_source, request, title, self._report, self._tiles)
        self._worker: Any = create_worker(self._task, _start_thread=False)
        self._worker.returned.connect(self._on_returned)
        self._worker.errored.connect(self._on_errored)

    @property
    def is_paused(self) -> bool:
        """Whether the run waits, or will in a moment."""
        return self._task.paused.is_set()

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def pause(self) -> None:
        """Wait; the network ends the tile in hand, and then other runs may use it."""
        self._task.paused.set()

    def resume(self) -> None:
        """Go on."""
        self._task.paused.clear()

    def cancel(self) -> None:
        """Give the job up at once.

        The thread ends in a moment, and what the network finds in the tile in hand is dropped.
        """
        self._live = False
        self._task.stopped.set()
        self._tiles.close()
        self._worker.quit()

    def _report(self, progress: Progress) -> None:
        if self._worker.abort_requested:
            self._task.stopped.set()
        if not self._task.stopped.is_set():
            self.progress = progress
            with window_may_be_gone():
                self.progressed.emit(progress)

    def _tell_drawn(self) -> None:
        if not self._task.stopped.is_set():
            with window_may_be_gone():
                self.tiles_drawn.emit(self._tiles.preview)

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
        open_source: Callable[[], Image | Stack],
        request: RunRequest,
        title: str,
        report: Callable[[Progress], None],
        tiles: LiveTiles,
    ) -> None:
        self.open_source = open_source
        self.request = request
        self.title = title
        self.report = report
        self.tiles = tiles
        self.stopped = threading.Event()
        self.paused = threading.Event()
        self._has_turn = False
        self._rested_s: dict[str, float] = {}

    def __str__(self) -> str:
        return self.title

    def __call__(self) -> Outcome:
        started = time.monotonic()
        try:
            segmentation = self._run()
        except DinomaskError as error:
            return Outcome(None, error, time.monotonic() - started)
        rested_s = sum(self._rested_s.values())
        return Outcome(segmentation, None, time.monotonic() - started - rested_s)

    def _run(self) -> Segmentation | StackSegmentation:
        self._tell("open")
        source = self.open_source()
        # seconds before the network could say the same
        require_usable(examine_stack(source) if isinstance(source, Stack) else examine(source))
        self._take_turn()
        try:
            self._tell("load")
            network.load(self.request.config)
            if isinstance(source, Stack):
                with self.tiles.following(source.base.shape_yx, source.shape):
                    return network.segment_planes(
                        source, self.request, self._on_progress, self.tiles.put
                    )
            with self.tiles.following(source.shape_yx):
                return network.segment(source, self.request, self._on_progress, self.tiles.put)
        finally:
            self._give_turn()

    def _take_turn(self) -> None:
        """Wait until another run has left the network."""
        while not network.turn.acquire(timeout=_POLL_S):
            self.report(Progress("wait", 0, 0, 0.0))
            self._require_wanted()
        self._has_turn = True

    def _give_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            network.turn.release()

    def _tell(self, stage: str) -> None:
        self._on_progress(Progress(stage, 0, 0, 0.0))

    def _on_progress(self, progress: Progress) -> None:
        self._require_wanted()
        if self.paused.is_set():
            self._rest(progress)
        # a pause is no work: speed and time left would be wrong
        elapsed_s = progress.elapsed_s - self._rested_s.get(progress.stage, 0.0)
        self.report(dataclasses.replace(progress, elapsed_s=max(elapsed_s, 0.0)))
        self._require_wanted()

    def _rest(self, progress: Progress) -> None:
        """Wait until the user goes on, without the network."""
        started = time.monotonic()
        had_turn = self._has_turn
        self._give_turn()
        self.report(dataclasses.replace(progress, stage="pause"))
        while self.paused.is_set():
            self._require_wanted()
            self.stopped.wait(_POLL_S)
        if had_turn:
            self._take_turn()
        rested_s = time.monotonic() - started
        self._rested_s[progress.stage] = self._rested_s.get(progress.stage, 0.0) + rested_s

    def _require_wanted(self) -> None:
        if self.stopped.is_set():
            raise CancelledError(
                expected="the run to go on",
                got="a cancelled run",
                remedy="Press Segment to start again.",
            )
