"""Time and memory of a piece of work in this process and those it starts."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclasses.dataclass
class Cost:
    """What a piece of work took."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    start_mb: float = 0.0
    peak_mb: float = 0.0
    child_mb: float = 0.0


@contextlib.contextmanager
def costs() -> Iterator[Cost]:
    """Measure a block; the peak is that of the whole process so far."""
    cost = Cost(start_mb=psutil.Process().memory_info().rss / 2**20)
    started, cpu = time.perf_counter(), _cpu_s()
    yield cost
    cost.seconds, cost.cpu_s = time.perf_counter() - started, _cpu_s() - cpu
    cost.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    cost.child_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)
