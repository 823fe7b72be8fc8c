"""How much memory this process has taken at most."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"


def peak_mb() -> float:
    """Return the most memory this process has held since `forget_peak`, in MB.

    Where the system doesn't let a peak be forgotten (all but Linux), since it started.
    """
    if _STATUS.is_file():
        # not getrusage, which counts what the process was forked from
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def held_mb() -> float:
    """Return the memory this process holds now, in MB."""
    return float(psutil.Process().memory_info().rss) / 1e6


def forget_peak() -> None:
    """Let the peak begin anew, where the system knows how."""
    if _CLEAR.exists():
        with contextlib.suppress(OSError):
            _CLEAR.write_text(_FORGET_PEAK)
