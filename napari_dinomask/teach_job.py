"""A teaching followed from a thread, so that no file or process holds up the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal

from dinomask.adapt.job import WORK, TeachJob, jobs_folder, list_jobs
from dinomask.adapt.preflight import plan_teaching
from napari_dinomask.follower import Follower, free_folder, latest_unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dinomask.adapt.taught import TaughtImage
    from dinomask.config import TeachConfig

    Gather = Callable[[], Sequence[TaughtImage]]


class Teacher(Follower):
    """Starts teachings and follows one at a time.

    Attributes
    ----------
    work : what the process of a job does, as ``module:function``
    """

    planned = Signal(object)
    """The `Preflight` that was asked for last."""

    def __init__(self) -> None:
        super().__init__("dinomask-teach")
        self.work = WORK
        self._latest_plan = 0

    def look_for_unfinished(self) -> None:
        """Take up the latest job whose end the user has not seen."""
        self._tasks.put(self._take_up_unseen)

    def plan(self, gather: Gather, config: TeachConfig) -> None:
        """Find out what a teaching would take."""
        self._latest_plan += 1
        number = self._latest_plan

        def work() -> None:
            if number == self._latest_plan:
                self._tell(self.planned, plan_teaching(gather(), config))

        self._tasks.put(work)

    def start(self, gather: Gather, name: str, config: TeachConfig) -> None:
        """Start a teaching.

        Parameters
        ----------
        gather : returns what to learn from; called in the thread
        name : of the adapter
        """
        # a plan that is still wanted would come too late
        self._latest_plan += 1

        def begin() -> TeachJob | None:
            taught = gather()
            if self._stopped:
                return None
            folder = free_folder(jobs_folder(), name)
            return TeachJob.start(taught, name, config, folder, work=self.work)

        self._start(begin)

    def _take_up_unseen(self) -> None:
        folder = latest_unseen(list_jobs())
        if folder is not None:
            self._follow(TeachJob.attach(folder, work=self.work))
