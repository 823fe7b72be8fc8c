"""Who draws windows: this process, or several that draw ahead of it."""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import queue
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from dinomask.tiles.draw import Drawn, Scene, draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from types import TracebackType

    import numpy as np

    from dinomask.tiles.plan import Box

_AHEAD = 2


class Painters:
    """Draw windows in order, with one process or several.

    Processes get all that a window shows with it, and give back its pixels;
    they open no files, so every chunk still has one writer. If one is killed,
    its windows are drawn here.

    Parameters
    ----------
    n : processes; 1 draws here, without starting any

    Notes
    -----
    Use as a context manager where n > 1, so that the processes end. Each process has a pipe of
    its own, whose other end it alone holds: killed in the middle of an answer it ends the pipe.
    `concurrent.futures.ProcessPoolExecutor` shares one among all, and then waits for ever.
    """

    def __init__(self, n: int = 1) -> None:
        self._n = n
        self._threads: ThreadPoolExecutor | None = None
        self._free: queue.SimpleQueue[_Painter] = queue.SimpleQueue()
        self._all: list[_Painter] = []

    def __enter__(self) -> Painters:
        if self._n > 1:
            self._all = [_Painter() for _ in range(self._n)]
            for painter in self._all:
                self._free.put(painter)
            self._threads = ThreadPoolExecutor(self._n, "dinomask-painter")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
            self._threads = None
        for painter in self._all:
            painter.stop()

    def draw(
        self, scenes: Iterable[Scene], dtype: np.dtype[np.unsignedinteger]
    ) -> Iterator[tuple[Box, Drawn]]:
        """Yield every scene's window and what is drawn there, in order."""
        waiting: collections.deque[tuple[Box, Future[Drawn]]] = collections.deque()
        for scene in scenes:
            waiting.append((scene.window_yxyx_px, self._begin(scene, dtype)))
            while len(waiting) > (_AHEAD * self._n if self._threads else 0):
                window, drawn = waiting.popleft()
                yield window, drawn.result()
        while waiting:
            window, drawn = waiting.popleft()
            yield window, drawn.result()

    def _begin(self, scene: Scene, dtype: np.dtype[np.unsignedinteger]) -> Future[Drawn]:
        # what shows nothing is drawn faster than sent
        if self._threads is not None and len(scene.members):
            return self._threads.submit(self._draw_elsewhere, scene, dtype)
        done: Future[Drawn] = Future()
        done.set_result(draw(scene, dtype))
        return done

    def _draw_elsewhere(self, scene: Scene, dtype: np.dtype[np.unsignedinteger]) -> Drawn:
        painter = self._free.get()
        try:
            drawn = painter.draw(scene, dtype)
        finally:
            # a dead one too: what is meant for it is drawn in this thread
            self._free.put(painter)
        return draw(scene, dtype) if drawn is None else drawn


class _Painter:
    """A process that draws what it is sent, one scene at a time."""

    def __init__(self) -> None:
        # forking a process that has threads can lock up
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs,), name="dinomask-painter", daemon=True
        )
        self.process.start()
        # so that its death ends the connection
        theirs.close()

    def draw(self, scene: Scene, dtype: np.dtype[np.unsignedinteger]) -> Drawn | None:
        """Return what it drew; None if it is dead."""
        try:
            self._ours.send((scene, dtype))
            answer = self._ours.recv()
        except (EOFError, OSError):
            return None
        if isinstance(answer, BaseException):
            raise answer
        drawn: Drawn = answer
        return drawn

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self._ours.close()


def _serve(connection: Connection) -> None:
    """Draw scenes until the other end is closed."""
    # Ctrl+C is for the process that writes
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        while True:
            scene, dtype = connection.recv()
            try:
                answer: Drawn | Exception = draw(scene, dtype)
            except Exception as error:  # noqa: BLE001 - raised again where it was asked for
                answer = error
            connection.send(answer)
