"""Maps of all tiles as one map of the image: each pixel from the tile that owns it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from dinomask.run.progress import OnProgress, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dinomask.explain.attention import Heatmap
    from dinomask.explain.seen import GridPlace, SeenImage
    from dinomask.instances import Array
    from dinomask.tiles.plan import Box, Tile


class Mosaic:
    """Maps of an image's tiles.

    Only their cells are kept, some 4 kB a tile of 448 px, so an image of any size
    fits into memory.

    Parameters
    ----------
    seen : the image
    """

    def __init__(self, seen: SeenImage) -> None:
        self._seen = seen
        self._maps: dict[int, tuple[Array, GridPlace]] = {}

    @staticmethod
    def of(
        seen: SeenImage,
        compute: Callable[[Tile], Heatmap],
        tiles: Sequence[int] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Mosaic:
        """Compute the maps of tiles.

        Parameters
        ----------
        compute : gives the map of a tile
        tiles : which; None takes all
        on_progress : told after each; may raise to cancel
        """
        mosaic = Mosaic(seen)
        chosen = range(len(seen.plan)) if tiles is None else tiles
        started = time.monotonic()
        for done, index in enumerate(chosen, 1):
            found = compute(seen.plan[index])
            mosaic._maps[index] = (found.values_yx.astype(np.float32), found.place)
            if on_progress:
                elapsed = time.monotonic() - started
                on_progress(Progress("explain", done, len(chosen), elapsed))
        return mosaic

    def draw(self, window_yxyx_px: Box) -> Array:
        """Draw a window in image pixels, shape (1, h, w), float32; 0 where no tile was computed.

        A pixel has the value of the cell that holds its middle, of the tile whose core does.
        """
        y0, x0, y1, x1 = window_yxyx_px
        drawn = np.zeros((1, y1 - y0, x1 - x0), np.float32)
        plan = self._seen.plan
        for index in plan.tiles_touching(window_yxyx_px):
            if index not in self._maps:
                continue
            core = plan.core_image_yxyx(plan[index])
            # first pixel whose middle lies in the core, and the first behind it
            top, left, bottom, right = (int(np.ceil(v - 0.5)) for v in core)
            inner = (max(top, y0), max(left, x0), min(bottom, y1), min(right, x1))
            if inner[2] <= inner[0] or inner[3] <= inner[1]:
                continue
            values, place = self._maps[index]
            piece = place.draw(values, inner)
            drawn[0, inner[0] - y0 : inner[2] - y0, inner[1] - x0 : inner[3] - x0] = piece
        return drawn
