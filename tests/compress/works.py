"""Works that the process of a study can do in place of `run_study`, quicker than it."""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinomask.run.progress import Progress

if TYPE_CHECKING:
    from dinomask.compress.choose import Study
    from dinomask.run.progress import OnProgress

REPORT_VARIABLE = "DINOMASK_TEST_REPORT"
STEPS = 40
STEP_S = 0.05


def count(study: Study, folder: Path, on_progress: OnProgress) -> dict[str, Any]:
    """Count, and return a report that was made before; goes on where it was stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "step.txt"
    step = int(state.read_text()) if state.exists() else 0
    while step < STEPS:
        time.sleep(STEP_S)
        step += 1
        state.write_text(str(step))
        on_progress(Progress("segment with all", step, STEPS, step * STEP_S))
    report: dict[str, Any] = json.loads(Path(os.environ[REPORT_VARIABLE]).read_text())
    return report | {"data": [str(place) for place in study.places]}


def in_one_process(study: Study, folder: Path, on_progress: OnProgress) -> dict[str, Any]:
    """Do the study, with all variants in this process."""
    from dinomask.compress.bench import report
    from dinomask.compress.bench.measure import Bench
    from dinomask.compress.study import run_study
    from tests.compress.in_process import InProcess

    report.Bench = functools.partial(Bench, start=InProcess)  # type: ignore[assignment, misc]
    return run_study(study, folder, on_progress)
