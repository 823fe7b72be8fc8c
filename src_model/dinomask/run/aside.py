"""Do something slow in another thread, so that whoever waits for it can stop waiting."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

T = TypeVar("T")

POLL_S = 0.1
"""Longest time between two looks at whether to stop."""


class Aside:
    """Runs one step after another in a thread of its own; use it in a ``with`` block.

    A step that nobody waits for any more, because `poll` raised, ends by itself and its
    result is dropped: a network can't be interrupted within a tile, which takes
    seconds where the model is large or the machine busy.

    Parameters
    ----------
    poll : called again and again while waiting; may raise to stop
    """

    def __init__(self, poll: Callable[[], None]) -> None:
        self._poll = poll
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="dinomask-network")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def run(self, step: Callable[[], T]) -> T:
        """Return what a step returns, or raise what it raises."""
        running = self._threads.submit(step)
        while not wait([running], POLL_S).done:
            self._poll()
        return running.result()
