"""Signs of life, and small files that one process replaces while another reads them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import time
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_T = TypeVar("_T")
_TRIES = 20
_SAME_START_S = 2.0
_BEAT_LOST_S = 30.0


@dataclasses.dataclass(frozen=True)
class Beat:
    """A sign of life."""

    pid: int
    """Process."""

    started: float
    """When that process began, in seconds since 1970: numbers of processes are used again."""

    machine: str
    """Where it runs."""

    time: float
    """When the sign was given."""

    state: str = "starting"
    """What it is at: starting, running, paused or stopping."""

    memory_mb: float = 0.0
    """Memory the process holds."""

    free_mb: float = 0.0
    """Memory the machine had left."""

    @staticmethod
    def of(pid: int, state: str = "starting") -> Beat:
        """Return a sign of life of a process of this machine."""
        process = psutil.Process(pid)
        return Beat(
            pid,
            process.create_time(),
            platform.node(),
            time.time(),
            state,
            process.memory_info().rss / 2**20,
            psutil.virtual_memory().available / 2**20,
        )

    @property
    def silent_s(self) -> float:
        """Seconds since."""
        return max(time.time() - self.time, 0.0)

    @property
    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        if self.machine != platform.node():
            # it can't be looked up from here
            return self.silent_s < _BEAT_LOST_S
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started) < _SAME_START_S
            return is_same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def put(path: Path, text: str, *, durable: bool = False) -> None:
    """Replace a file by a text; whoever reads it meets the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        _patiently(lambda: temporary.replace(path))
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def get(path: Path) -> str:
    """Read a file that another process may be replacing."""
    return _patiently(lambda: path.read_text(encoding="utf-8"))


def get_json(path: Path) -> dict[str, Any] | None:
    """Read a file if it is there and whole."""
    try:
        raw = json.loads(get(path))
    except (OSError, ValueError):
        return None
    return raw if isinstance(raw, dict) else None


def get_beat(path: Path) -> Beat | None:
    """Read a sign of life if there is one."""
    raw = get_json(path)
    try:
        return None if raw is None else Beat(**raw)
    except TypeError:
        return None


def _patiently(act: Callable[[], _T]) -> _T:
    # Windows lets no one replace a file that someone reads
    for _ in range(_TRIES):
        try:
            return act()
        except PermissionError:
            time.sleep(0.01)
    return act()
