"""A variant's process that dies is told, and takes no other with it."""

from __future__ import annotations

import os
import signal

import pytest

from dinomask.compress.bench.process import VariantProcess
from dinomask.config import SegmentConfig
from dinomask.errors import EngineError


def test_a_process_that_is_killed_is_told_and_can_be_closed_again() -> None:
    with VariantProcess("original", SegmentConfig(threads=1), lambda: None) as process:
        os.kill(process._process.pid or 0, signal.SIGTERM)
        with pytest.raises(EngineError, match="the process of original to answer"):
            process.ask("describe")
        # as the bench does with one that failed, before it leaves them all
        process.close()
