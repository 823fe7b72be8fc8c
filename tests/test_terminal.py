"""Progress where there is no terminal to draw on."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from dinomask import terminal
from dinomask.run.progress import Progress

if TYPE_CHECKING:
    import pytest


def test_a_stage_whose_clock_begins_anew_is_told_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "PLAIN_EVERY_S", 0.0)
    out = io.StringIO()
    with terminal.ProgressBar(Console(file=out)) as bar:
        bar(Progress("detect", 5, 9, 560.0))
        bar(Progress("stitch", 1, 9, 1.0))
    assert [line.split()[:2] for line in out.getvalue().splitlines()] == [
        ["segmenting", "5/9,"],
        ["stitching", "1/9,"],
    ]


def test_lines_come_now_and_then_only() -> None:
    out = io.StringIO()
    with terminal.ProgressBar(Console(file=out)) as bar:
        for i in range(100):
            bar(Progress("detect", i, 100, 1000.0 * i))
    assert not out.getvalue()
