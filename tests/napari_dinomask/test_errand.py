"""Work in a thread: followed, answered, given up at once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import Qt

from dinomask.errors import InputError
from dinomask.run.progress import Progress
from napari_dinomask.widgets.errand_bar import ErrandBar

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from dinomask.run.progress import OnProgress


@pytest.fixture
def bar(qtbot: QtBot) -> ErrandBar:
    bar = ErrandBar()
    qtbot.addWidget(bar)
    return bar


def test_progress_is_shown_and_the_result_handed_over(bar: ErrandBar, qtbot: QtBot) -> None:
    go_on, results, threads = threading.Event(), [], []

    def work(report: OnProgress) -> int:
        threads.append(threading.current_thread())
        report(Progress("features", 3, 12, 6.0))
        go_on.wait(5)
        return 42

    bar.run(work, results.append)
    qtbot.waitUntil(lambda: "3 of 12 tiles" in bar.stage.text())
    assert "18\u00a0s left" in bar.stage.text()
    assert (bar.bar.value(), bar.bar.maximum()) == (3, 12)
    assert bar.isVisibleTo(None)
    assert bar.is_busy
    go_on.set()
    qtbot.waitUntil(lambda: bool(results))
    assert results == [42]
    assert not bar.is_busy
    assert not bar.isVisibleTo(None)
    assert threads[0] is not threading.main_thread()


def test_a_users_error_is_handed_over(bar: ErrandBar, qtbot: QtBot) -> None:
    def work(report: OnProgress) -> None:
        raise InputError(expected="a", got="b", remedy="c")

    with qtbot.waitSignal(bar.failed) as failed:
        bar.run(work, lambda _: pytest.fail("there is no result"))
    assert isinstance(failed.args[0], InputError)


def test_cancel_answers_at_once_and_nothing_is_heard_of_it_again(
    bar: ErrandBar, qtbot: QtBot
) -> None:
    heard, ended = [], threading.Event()

    def work(report: OnProgress) -> str:
        try:
            while True:
                report(Progress("umap", 1, 2, 1.0))
                time.sleep(0.05)
        finally:
            ended.set()

    bar.run(work, heard.append)
    bar.failed.connect(heard.append)
    qtbot.waitUntil(lambda: "50 %" in bar.stage.text())
    errand = bar.errand
    started = time.monotonic()
    with qtbot.waitSignal(bar.cancelled):
        qtbot.mouseClick(bar.stop, Qt.MouseButton.LeftButton)
    assert not bar.is_busy
    assert ended.wait(1)
    assert time.monotonic() - started < 1
    assert errand is not None
    errand.wait()
    qtbot.wait(100)
    assert not heard


def test_another_errand_takes_the_place_of_the_one_before(bar: ErrandBar, qtbot: QtBot) -> None:
    results, go_on = [], threading.Event()
    bar.run(lambda _: go_on.wait(5) and "first", results.append)
    first = bar.errand
    bar.run(lambda _: "second", results.append)
    go_on.set()
    qtbot.waitUntil(lambda: bool(results))
    assert first is not None
    first.wait()
    qtbot.wait(50)
    assert results == ["second"]
