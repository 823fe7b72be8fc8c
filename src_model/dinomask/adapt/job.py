"""A teaching in a process of its own, which outlives the window that started it. No torch here.

The two sides share nothing but the files of one folder (see `job_files`), so a
job can be followed, paused, stopped and taken up again by any process, also
after a crash of either side.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from dinomask.adapt.job_files import NOUN, JobInputs, read_inputs, write_inputs
from dinomask.adapt.progress import TeachProgress, TeachResult
from dinomask.jobs import job
from dinomask.jobs.job import JobReport as AnyReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.adapt.taught import TaughtImage
    from dinomask.config import TeachConfig

WORK = "dinomask.adapt.finetune:finetune"
"""What the process does, as ``module:function``."""

JobReport = AnyReport[TeachProgress, TeachResult]
"""Where a teaching stands; the result is also that of a cancelled one, if the best so far could
be kept."""


class TeachJob(job.Job[TeachProgress, TeachResult]):
    """A handle on the teaching in a folder.

    Parameters
    ----------
    folder : of the job
    inputs : what it was asked to do
    work : ``module:function`` called like `dinomask.adapt.finetune.finetune`
    """

    worker = "dinomask.adapt.job_worker"
    noun = NOUN

    def __init__(self, folder: Path, inputs: JobInputs, work: str = WORK) -> None:
        super().__init__(folder, work, inputs.config.threads)
        self.inputs = inputs

    @classmethod
    def start(
        cls,
        taught: Sequence[TaughtImage],
        name: str,
        config: TeachConfig,
        folder: Path,
        *,
        work: str = WORK,
    ) -> TeachJob:
        """Write a job's inputs and start its process.

        Parameters
        ----------
        taught : images to learn from
        name : of the adapter
        folder : new, or without a job

        Raises
        ------
        OutputError
            If there is a job already, or the folder can't be written.
        EngineError
            If no process can be started.
        """
        write_inputs(folder, taught, name, config)
        started = cls.attach(folder, work=work)
        started.launch()
        return started

    @classmethod
    def attach(cls, folder: Path, *, work: str = WORK) -> TeachJob:
        """Take up the job in a folder, whoever started it and whether or not it runs.

        Raises
        ------
        DataError
            If there is none, or it is damaged.
        """
        return cls(folder, read_inputs(folder), work)

    def progress_of(self, raw: dict[str, Any]) -> TeachProgress:
        """See `dinomask.jobs.job.Job.progress_of`."""
        return TeachProgress(**raw)

    def result_of(self, raw: dict[str, Any]) -> TeachResult:
        """See `dinomask.jobs.job.Job.result_of`."""
        return TeachResult(**raw | {"folder": Path(raw["folder"])})


def jobs_folder() -> Path:
    """Return where a user's teachings live (`DINOMASK_JOBS` overrides it)."""
    override = os.environ.get("DINOMASK_JOBS")
    return Path(override) if override else platformdirs.user_data_path("dinomask") / "teaching"


def list_jobs(home: Path | None = None) -> list[Path]:
    """Return the folders of all teachings, the latest first."""
    return job.list_jobs(home or jobs_folder())
