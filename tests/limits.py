"""Conditions under which writing fails for real."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def full_disk(left_bytes: int = 10_000) -> Iterator[None]:
    """Let no file grow beyond some bytes, as on a disk that is almost full."""
    resource = pytest.importorskip("resource", reason="only POSIX limits file sizes")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
