"""One thread behind a panel: work in order, answers in the window's own thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from qtpy.QtCore import QObject, Signal

from dinomask.errors import DinomaskError
from napari_dinomask.sending import window_may_be_gone

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")


class Background(QObject):
    """Runs one piece of work after another in a thread of its own.

    Parameters
    ----------
    name : of the thread
    """

    crashed = Signal(object)
    """An exception that is no user's fault."""

    _ended = Signal(object)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._is_open = True
        self._waiting = 0
        self._ended.connect(self._on_ended)

    @property
    def is_busy(self) -> bool:
        """Whether there is work that has not been answered."""
        return self._waiting > 0

    def run(
        self,
        work: Callable[[], T],
        then: Callable[[T], None],
        otherwise: Callable[[DinomaskError], None],
    ) -> None:
        """Do work in the thread, then hand over what came of it.

        Parameters
        ----------
        work : called in the thread
        then : called with its result in the window's thread
        otherwise : called with the user's error instead
        """
        if not self._is_open:
            return
        self._waiting += 1
        future = self._executor.submit(work)
        future.add_done_callback(lambda done: self._tell(done, then, otherwise))

    def close(self) -> None:
        """Drop what is not begun, and the answer of what is."""
        self._is_open = False
        self._executor.shutdown(wait=False, cancel_futures=True)

    def wait(self) -> None:
        """Wait until the thread has ended, once closed."""
        self._executor.shutdown(wait=True)

    def _tell(self, *ended: Any) -> None:
        if self._is_open:
            with window_may_be_gone():
                self._ended.emit(ended)

    def _on_ended(self, ended: tuple[Future[Any], Any, Any]) -> None:
        future, then, otherwise = ended
        self._waiting -= 1
        if not self._is_open or future.cancelled():
            return
        error = future.exception()
        if isinstance(error, DinomaskError):
            otherwise(error)
        elif error is not None:
            self.crashed.emit(error)
        else:
            then(future.result())
