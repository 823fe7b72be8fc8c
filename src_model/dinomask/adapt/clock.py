"""Time of work, without pauses, and telling of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dinomask.adapt.progress import TeachProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.adapt.progress import Phase


class WorkClock:
    """Counts seconds of work; the time that listeners take, such as a pause, is left out.

    Parameters
    ----------
    worked_s : seconds of work before, in a teaching that goes on
    budget_s : for everything
    on_progress : listener; an exception from it ends the work
    """

    def __init__(
        self,
        worked_s: float,
        budget_s: float,
        on_progress: Callable[[TeachProgress], object] | None = None,
    ) -> None:
        self.budget_s = budget_s
        self._on_progress = on_progress
        self._started = time.monotonic() - worked_s
        self._held_s = 0.0

    @property
    def worked_s(self) -> float:
        """Seconds of work so far."""
        return time.monotonic() - self._started - self._held_s

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left, at least 0."""
        return max(0.0, self.budget_s - self.worked_s)

    def tell(
        self,
        phase: Phase,
        step: int = 0,
        loss: float | None = None,
        held_out: float | None = None,
        fraction: float | None = None,
    ) -> None:
        """Tell the listener where the work stands.

        Parameters
        ----------
        phase, step, loss, held_out : as in `TeachProgress`
        fraction : of all that is done, where steps and not the time decide
        """
        if self._on_progress is None:
            return
        worked_s = self.worked_s
        done = min(1.0, worked_s / self.budget_s)
        if fraction is not None:
            done = max(done, min(1.0, fraction))
        eta_s = worked_s * (1 - done) / max(done, 1e-3)
        before = time.monotonic()
        try:
            self._on_progress(TeachProgress(phase, step, done, worked_s, eta_s, loss, held_out))
        finally:
            self._held_s += time.monotonic() - before
