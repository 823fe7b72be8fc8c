"""The process of a study: ``python -m dinomask.compress.job_worker FOLDER module:function``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinomask.compress.job import MEASURED_FOLDER, REPORT_FILE, read_study
from dinomask.jobs.beat import put
from dinomask.jobs.worker import find_work, run

if TYPE_CHECKING:
    from dinomask.jobs.worker import Reporter
    from dinomask.run.progress import Progress


def compare(folder: Path, work: str, reporter: Reporter) -> dict[str, Any]:
    """Do the study of a job's files, and write its report."""

    def tell(progress: Progress) -> None:
        reporter.tell(progress, progress.stage, notable=progress.done == progress.total)

    study = read_study(folder)
    reporter.require_wanted()
    function = find_work(work)
    reporter.require_wanted()
    report = function(study, folder / MEASURED_FOLDER, tell)
    path = folder / REPORT_FILE
    put(path, json.dumps(report, default=str), durable=True)
    return {"report": os.fspath(path)}


if __name__ == "__main__":
    home, named = Path(sys.argv[1]), sys.argv[2]
    sys.exit(run(home, lambda reporter: compare(home, named, reporter)))
