"""Take items from an iterator ahead of time, in a thread."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from dinomask.run.aside import POLL_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

T = TypeVar("T")

_JOIN_S = 0.5


class Prefetch(Generic[T]):
    """Runs an iterator in a thread, a few items ahead of whoever takes them.

    Parameters
    ----------
    items : what to run; an exception in it is raised where its items are taken
    ahead : items that may be ready and waiting
    poll : called again and again while there is none; may raise to stop
    """

    def __init__(self, items: Iterator[T], ahead: int, poll: Callable[[], None]) -> None:
        self._items = items
        self._poll = poll
        self._ready: queue.Queue[list[T]] = queue.Queue(max(1, ahead))
        self._error: BaseException | None = None
        self._stopped = threading.Event()
        # a daemon: a read that hangs must not keep a cancelled program alive
        self._thread = threading.Thread(target=self._run, daemon=True, name="dinomask-prefetch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join(_JOIN_S)

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self._ready.get(timeout=POLL_S)
            except queue.Empty:
                self._poll()
                continue
            if not item:
                if self._error is not None:
                    raise self._error
                return
            yield item[0]

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put([item]):
                    return
        # handed on to the thread that takes the items
        except BaseException as error:  # noqa: BLE001
            self._error = error
        self._put([])

    def _put(self, item: list[T]) -> bool:
        """Hand over one item, none for the end; False if nobody wants it any more."""
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=POLL_S)
            except queue.Full:
                continue
            return True
        return False
