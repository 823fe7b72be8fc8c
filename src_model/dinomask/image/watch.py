"""Notice during long work that an image vanishes or changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dinomask.image.image import Image

INTERVAL_S = 5.0
"""Seconds between two looks; over a network each is a few small requests."""


class Watch:
    """Looks at a source now and then; call it as often as you like.

    Parameters
    ----------
    image : what is being read
    interval_s : seconds between two looks
    """

    def __init__(self, image: Image, interval_s: float = INTERVAL_S) -> None:
        self._image = image
        self._interval_s = interval_s
        self._next_s = time.monotonic() + interval_s

    def __call__(self) -> None:
        """Look, if it is time.

        Raises
        ------
        SourceChangedError
            If the source vanished or changed.
        """
        if time.monotonic() >= self._next_s:
            self._image.require_unchanged()
            self._next_s = time.monotonic() + self._interval_s
