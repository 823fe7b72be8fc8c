"""Who draws windows: this process, or several that draw ahead of it."""

from __future__ import annotations

import collections
import multiprocessing
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import TYPE_CHECKING

from dinomask.tiles.draw import Drawn, Scene, draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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
    Use as a context manager where n > 1, so that the processes end.
    """

    def __init__(self, n: int = 1) -> None:
        self._n = n
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Painters:
        if self._n > 1:
            # forking a process that has threads can lock up
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._n, mp_context=spawn)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def draw(
        self, scenes: Iterable[Scene], dtype: np.dtype[np.unsignedinteger]
    ) -> Iterator[tuple[Box, Drawn]]:
        """Yield every scene's window and what is drawn there, in order."""
        waiting: collections.deque[tuple[Scene, Future[Drawn] | None]] = collections.deque()
        for scene in scenes:
            waiting.append((scene, self._submit(scene, dtype)))
            while len(waiting) > (_AHEAD * self._n if self._pool else 0):
                yield self._result(*waiting.popleft(), dtype)
        while waiting:
            yield self._result(*waiting.popleft(), dtype)

    def _submit(self, scene: Scene, dtype: np.dtype[np.unsignedinteger]) -> Future[Drawn] | None:
        # what shows nothing is drawn faster than sent
        if self._pool is None or not len(scene.members):
            return None
        try:
            return self._pool.submit(draw, scene, dtype)
        except BrokenExecutor:
            return None

    @staticmethod
    def _result(
        scene: Scene, future: Future[Drawn] | None, dtype: np.dtype[np.unsignedinteger]
    ) -> tuple[Box, Drawn]:
        if future is not None:
            try:
                return scene.window_yxyx_px, future.result()
            except BrokenExecutor:
                pass
        return scene.window_yxyx_px, draw(scene, dtype)
