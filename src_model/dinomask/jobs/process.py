"""Starting the process of a job: detached, with its own threads and log."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from dinomask.errors import EngineError
from dinomask.jobs.files import LOG_FILE

if TYPE_CHECKING:
    from pathlib import Path

children: dict[int, subprocess.Popen[bytes]] = {}
"""Processes started here, by number; kept so that none stays a zombie."""


def spawn(folder: Path, worker: str, work: str, threads: int | None) -> subprocess.Popen[bytes]:
    """Start the process of a job; it outlives this one.

    Parameters
    ----------
    folder : of the job
    worker : module that is run, see `dinomask.jobs.worker`
    work : ``module:function``
    threads : CPU threads; None takes all cores but one

    Raises
    ------
    EngineError
        If no process can be started.
    """
    # without the current folder among the modules
    command = [sys.executable, "-P", "-X", "faulthandler", "-m", worker]
    command += [os.fspath(folder), work]
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        options = {"creationflags": flags}
    try:
        with (folder / LOG_FILE).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | _thread_budget(threads),
                **options,
            )
    except OSError as error:
        raise EngineError(
            expected="to start a process for it",
            got=error.strerror or str(error),
            remedy="Close other programs, then try again.",
        ) from error
    children[process.pid] = process
    return process


def _thread_budget(threads: int | None) -> dict[str, str]:
    """Return the environment that limits a process to its threads: all cores but one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    budget = threads or int(os.environ.get("OMP_NUM_THREADS") or 0) or max((cores or 2) - 1, 1)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(names, str(budget))
