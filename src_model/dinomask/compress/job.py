"""A compression and comparison in a process of its own, which outlives the window. No torch here.

```
job.json        the study: model, ways, places of images, settings
images/         images of the window that the study was started from
measured/       what the bench keeps
report.json     the report, when it is finished
```
The other files are those of every job, see `dinomask.jobs.files`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from dinomask.compress.choose import Study
from dinomask.config import as_dict
from dinomask.jobs import job
from dinomask.jobs.files import read_job, require_free, restored, write_job
from dinomask.jobs.job import JobReport as AnyReport
from dinomask.run.progress import Progress

if TYPE_CHECKING:
    Report = dict[str, Any]

WORK = "dinomask.compress.study:run_study"
"""What the process does, as ``module:function``."""

REPORT_FILE = "report.json"
MEASURED_FOLDER = "measured"
IMAGES_FOLDER = "images"
FORMAT = 1

StudyReport = AnyReport[Progress, dict[str, Any]]
"""Where a study stands; its result is the report of `dinomask.compress.study.run_study`."""


class StudyJob(job.Job[Progress, dict[str, Any]]):
    """A handle on the study in a folder.

    Parameters
    ----------
    folder : of the job
    study : what it was asked to do
    work : ``module:function`` called like `dinomask.compress.study.run_study`
    """

    worker = "dinomask.compress.job_worker"
    noun = "the comparison"

    def __init__(self, folder: Path, study: Study, work: str = WORK) -> None:
        super().__init__(folder, work, study.config.threads)
        self.study = study

    @classmethod
    def start(cls, study: Study, folder: Path, *, work: str = WORK) -> StudyJob:
        """Write what is to be done, and start the process.

        Parameters
        ----------
        study : what to do
        folder : without a job; may hold images already

        Raises
        ------
        OutputError
            If there is a job already, or the folder can't be written.
        EngineError
            If no process can be started.
        """
        write_study(folder, study)
        started = cls.attach(folder, work=work)
        started.launch()
        return started

    @classmethod
    def attach(cls, folder: Path, *, work: str = WORK) -> StudyJob:
        """Take up the job in a folder, whoever started it and whether or not it runs.

        Raises
        ------
        DataError
            If there is none, or it is damaged.
        """
        return cls(folder, read_study(folder), work)

    def progress_of(self, raw: dict[str, Any]) -> Progress:
        """See `dinomask.jobs.job.Job.progress_of`."""
        return Progress(**raw)

    def result_of(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Return the report; see `dinomask.jobs.job.Job.result_of`."""
        found: dict[str, Any] = json.loads(Path(raw["report"]).read_text(encoding="utf-8"))
        return found


def write_study(folder: Path, study: Study) -> None:
    """Write what a study is to do.

    Raises
    ------
    OutputError
        If the folder holds a job already, or can't be written.
    """
    require_free(folder, "a comparison")
    write_job(folder, FORMAT, {"study": as_dict(study)})


def read_study(folder: Path) -> Study:
    """Read what a study is to do.

    Raises
    ------
    DataError
        If there is none, or it is damaged or of a later version.
    """

    def build(raw: dict[str, Any]) -> Study:
        study: Study = restored(Study, raw["study"])
        out = None if study.out is None else Path(study.out)
        places, other = (tuple(map(Path, p)) for p in (study.places, study.other))
        return dataclasses.replace(study, places=places, other=other, out=out)

    return read_job(folder, FORMAT, StudyJob.noun, build)


def jobs_folder() -> Path:
    """Return where a user's comparisons live, beside the teachings (`DINOMASK_JOBS`)."""
    override = os.environ.get("DINOMASK_JOBS")
    home = Path(override) if override else platformdirs.user_data_path("dinomask")
    return home / "comparisons"


def list_jobs(home: Path | None = None) -> list[Path]:
    """Return the folders of all comparisons, the latest first."""
    return job.list_jobs(home or jobs_folder())
