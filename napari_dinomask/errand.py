"""One long piece of work in a thread, followed and given up from the window."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from dinomask.errors import CancelledError, DinomaskError
from napari_dinomask.sending import window_may_be_gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.run.progress import OnProgress, Progress

_TELL_S = 0.05
"""Progress that follows sooner on another is not told."""


class Errand(QObject):
    """Runs once.

    One of `done`, `failed` and `crashed` is emitted, unless it is cancelled: then none is, ever.

    Parameters
    ----------
    name : of the thread
    work : called in the thread; must call what it is given now and then, and let the
        `CancelledError` pass that this raises once the errand is cancelled
    """

    progressed = Signal(object)
    """A `Progress`."""

    done = Signal(object)
    """What the work returned."""

    failed = Signal(object)
    """A `DinomaskError`, which the user can mend."""

    crashed = Signal(object)
    """Any other exception."""

    _ended = Signal(object, object, object)

    def __init__(self, name: str, work: Callable[[OnProgress], Any]) -> None:
        super().__init__()
        self._work = work
        self._stopped = threading.Event()
        self._told_s = 0.0
        self._ended.connect(self._on_ended)
        self._thread = threading.Thread(target=self._run, name=name)

    @property
    def is_cancelled(self) -> bool:
        """Whether it was given up."""
        return self._stopped.is_set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def cancel(self) -> None:
        """Give the work up; nothing more is heard of it."""
        self._stopped.set()

    def wait(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        result, refused, crash = None, None, None
        try:
            result = self._work(self._report)
        except DinomaskError as error:
            refused = error
        except Exception as error:  # noqa: BLE001 - handed over to the window's thread
            crash = error
        if not self._stopped.is_set():
            with window_may_be_gone():
                self._ended.emit(result, refused, crash)

    def _report(self, progress: Progress) -> None:
        if self._stopped.is_set():
            raise CancelledError(
                expected="the work to go on", got="it was cancelled", remedy="Start it again."
            )
        now_s = time.monotonic()
        if now_s - self._told_s >= _TELL_S:
            self._told_s = now_s
            with window_may_be_gone():
                self.progressed.emit(progress)

    def _on_ended(self, result: Any, refused: Any, crash: Any) -> None:
        if self._stopped.is_set():
            return
        if crash is not None:
            self.crashed.emit(crash)
        elif refused is not None:
            self.failed.emit(refused)
        else:
            self.done.emit(result)
