"""The process of a teaching: ``python -m dinomask.adapt.job_worker FOLDER module:function``.

Imports neither napari nor Qt; torch is imported by what it calls.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinomask.adapt.job_files import read_inputs, read_taught
from dinomask.adapt.promotion import history, keep_aside, promote
from dinomask.jobs.files import WORK_FOLDER
from dinomask.jobs.worker import find_work, run
from dinomask.nets.adapter_manifest import adapters_folder, read_adapter_manifest

if TYPE_CHECKING:
    from dinomask.adapt.progress import TeachProgress, TeachResult
    from dinomask.jobs.worker import Reporter


def teach(folder: Path, work: str, reporter: Reporter) -> dict[str, Any]:
    """Teach what the job's files ask for; return the result as plain values."""

    def tell(progress: TeachProgress) -> None:
        notable = progress.held_out is not None or progress.fraction >= 1
        reporter.tell(progress, progress.phase, notable=notable)

    inputs = read_inputs(folder)
    taught = read_taught(folder, inputs)
    reporter.require_wanted()
    function = find_work(work)
    reporter.require_wanted()
    result = function(
        taught,
        out=folder / WORK_FOLDER,
        name=inputs.name,
        config=inputs.config,
        on_progress=tell,
    )
    _settle(result)
    return _plain(result)


def _settle(result: TeachResult) -> None:
    """Put what passed the gate into use, note why the rest did not; unless that was done."""
    if result.folder.parent.resolve() != adapters_folder().resolve():
        return
    sha256 = read_adapter_manifest(result.folder).tensors_sha256
    if any(decision.tensors_sha256 == sha256 for decision in history()):
        return
    (promote if result.promoted else keep_aside)(result.folder.name, result.reason)


def _plain(result: TeachResult) -> dict[str, Any]:
    return dataclasses.asdict(result) | {"folder": os.fspath(result.folder)}


if __name__ == "__main__":
    home, named = Path(sys.argv[1]), sys.argv[2]
    sys.exit(run(home, lambda reporter: teach(home, named, reporter), _plain))
