"""Steps in a thread of their own: their results, their errors, and not waiting for them."""

from __future__ import annotations

import threading
import time

import pytest

from dinomask.errors import CancelledError
from dinomask.run.aside import Aside


def nothing() -> None:
    """Never stop."""


def test_results_come_in_order_and_from_one_other_thread() -> None:
    with Aside(nothing) as aside:
        found = [aside.run(lambda i=i: (i, threading.get_ident())) for i in range(5)]
    assert [i for i, _ in found] == list(range(5))
    (thread,) = {ident for _, ident in found}
    assert thread != threading.get_ident()


# a step's own timeout must not be taken for that of the wait
@pytest.mark.parametrize("error", [ValueError, TimeoutError, KeyboardInterrupt])
def test_what_a_step_raises_is_raised(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    with Aside(nothing) as aside, pytest.raises(error):
        aside.run(fail)


def test_whoever_waits_can_stop_waiting() -> None:
    release, polls = threading.Event(), []

    def stop() -> None:
        polls.append(time.monotonic())
        if len(polls) == 3:
            raise CancelledError(expected="to finish", got="a cancel", remedy="Run it again.")

    started = time.monotonic()
    with pytest.raises(CancelledError), Aside(stop) as aside:
        aside.run(release.wait)
    assert time.monotonic() - started < 10
    release.set()
