"""Tiles on their way from a run to the screen, without the run ever waiting for it."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING

from dinomask.tiles.preview import Preview

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dinomask.instances import Instances

    _Core = tuple[float, float, float, float]
    _Place = tuple[int, ...]

_WAITING = 500
"""Tiles that may wait to be drawn; a network that is faster still has some left out."""

_TELL_S = 0.3
"""Shortest time between two signs that there is more to see."""


class LiveTiles:
    """Draws tiles into a preview, in a thread of its own.

    Parameters
    ----------
    on_drawn : called in that thread, not too often, when more tiles were drawn

    Attributes
    ----------
    preview : what they are drawn into; None before the run begins
    """

    def __init__(self, on_drawn: Callable[[], None]) -> None:
        self.preview: Preview | None = None
        self._on_drawn = on_drawn
        self._tiles: queue.Queue[tuple[_Core, Instances, _Place] | None] = queue.Queue()
        self._closed = False

    @contextlib.contextmanager
    def following(self, shape_yx: tuple[int, int], planes: _Place = ()) -> Iterator[None]:
        """Draw what is put in, for an image or planes of a certain size, until the block ends."""
        self.preview = Preview(shape_yx, planes)
        if self._closed:
            self.preview.close()
        thread = threading.Thread(target=self._run, args=(self.preview,), name="dinomask-preview")
        thread.start()
        try:
            yield
        finally:
            self._closed = True
            self._tiles.put(None)
            thread.join()

    def put(self, core_yxyx_px: _Core, found: Instances, place: _Place) -> None:
        """Hand over what a tile found, and in which plane; returns at once."""
        if not self._closed and self._tiles.qsize() < _WAITING:
            self._tiles.put((core_yxyx_px, found, place))

    def close(self) -> None:
        """Draw no more, and forget what was drawn."""
        self._closed = True
        if self.preview is not None:
            self.preview.close()

    def _run(self, preview: Preview) -> None:
        told_s, untold = 0.0, False
        while True:
            with contextlib.suppress(queue.Empty):
                tile = self._tiles.get(timeout=_TELL_S if untold else None)
                if tile is None:
                    return
                if not self._closed:
                    untold |= preview.draw(*tile)
            if untold and not self._closed and time.monotonic() - told_s >= _TELL_S:
                told_s, untold = time.monotonic(), False
                self._on_drawn()
