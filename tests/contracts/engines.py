"""What the contracts of engines share: images that misbehave, and processes to watch."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np


class DeadlyArray:
    """Pixels of which one corner ends the process that reads it, as a lack of memory would.

    It is the corner of the first tile or of the last.
    """

    def __init__(self, pixels_yx: np.ndarray, leader: int, *, first: bool) -> None:
        self.pixels_yx = pixels_yx
        self.leader = leader
        self.first = first
        self.shape = pixels_yx.shape
        self.dtype = pixels_yx.dtype
        self.ndim = 2

    def __getitem__(self, window: Any) -> np.ndarray:
        rows, columns = window
        if self.first:
            deadly = not (rows.start or columns.start)
        else:
            deadly = (rows.stop, columns.stop) == self.shape
        if deadly and os.getpid() != self.leader:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.pixels_yx[window]


def wait_until_gone(pids: Iterable[int], timeout_s: float) -> list[int]:
    """Return the processes that are still alive after some time."""
    deadline = time.monotonic() + timeout_s
    left = list(pids)
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [pid for pid in left if _is_alive(pid)]
    return left


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
