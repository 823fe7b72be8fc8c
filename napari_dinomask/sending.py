"""Signals from threads to a window that may be gone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def window_may_be_gone() -> Iterator[None]:
    """Drop what is told to an object that was deleted together with its window.

    napari deletes the objects of a window that closes while threads still work for it; Qt's
    bindings raise `RuntimeError` on the first touch of such an object, and nobody is left to tell.
    """
    with contextlib.suppress(RuntimeError):
        yield
