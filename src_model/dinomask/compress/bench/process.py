"""The process that a variant lives in, seen from the one that leads."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

from dinomask.compress.bench.worker import READY, serve
from dinomask.errors import DinomaskError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from types import TracebackType
    from typing import Self

    from dinomask.config import SegmentConfig

POLL_S = 0.1
"""Time between two looks whether the user wants to stop."""


class VariantProcess:
    """A loaded variant that does what it is asked, one thing after another.

    Parameters
    ----------
    name : of the variant, for messages
    config : with which it is loaded and segments
    tick : called while waiting; may raise to stop
    """

    def __init__(self, name: str, config: SegmentConfig, tick: Callable[[], None]) -> None:
        self.name = name
        self._tick = tick
        # a forked torch may hang, and Windows and macOS have no fork
        context = multiprocessing.get_context("spawn")
        self._connection: Connection
        self._connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=serve, args=(theirs, config), name="dinomask-bench", daemon=True
        )
        self._process.start()
        # so that its death ends the connection
        theirs.close()
        self._is_ready = self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, what: str, **arguments: Any) -> Any:
        """Let it do something, and return what comes of it.

        Parameters
        ----------
        what : a method of `dinomask.compress.bench.worker.Loaded`
        arguments : of that method

        Raises
        ------
        DinomaskError
            If the variant can't be loaded, or can't do it.
        EngineError
            If its process ends.
        """
        self.wait_until_ready()
        self._connection.send((what, arguments))
        return self._receive()

    def wait_until_ready(self) -> None:
        """Wait until the variant is loaded.

        Raises
        ------
        DinomaskError
            If it can't be loaded.
        """
        if not self._is_ready and self._receive() == READY:
            self._is_ready = True

    def _receive(self) -> Any:
        try:
            while not self._connection.poll(POLL_S):
                self._tick()
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise EngineError(
                expected=f"the process of {self.name} to answer",
                got=f"its end (exit code {self._process.exitcode})",
                remedy="Memory may be short: measure fewer variants at once, or a smaller tile.",
            ) from error
        if isinstance(answer, DinomaskError):
            raise answer
        return answer

    def close(self) -> None:
        """End the process, whatever it is at; again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()
