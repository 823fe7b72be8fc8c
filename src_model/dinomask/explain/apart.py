"""Long computations on tables, in a process of their own that can be stopped at once.

UMAP, t-SNE and scikit-learn can't be asked to stop, and loading them takes seconds in
which a window would stand still. So they run in `dinomask.explain.apart_worker`, which
is ended when the work is cancelled, and ends itself when this process is gone.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import EngineError, ExplainError
from dinomask.run.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dinomask.instances import Array
    from dinomask.run.progress import OnProgress

POLL_S = 0.1
"""Time between looks at whether the work shall be stopped."""

INPUT_FILE, SETTINGS_FILE, OUTPUT_FILE = "in.npz", "in.json", "out.npz"
REFUSED_FILE, ERROR_FILE = "refused.json", "error.txt"

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
"""Sums that several threads share end in other last digits, which a layout makes visible."""


def run_apart(
    task: str,
    arrays: Mapping[str, Array],
    settings: Mapping[str, Any],
    on_progress: OnProgress | None = None,
) -> dict[str, Array]:
    """Compute something in another process.

    Parameters
    ----------
    task : one of `dinomask.explain.apart_worker.TASKS`, also the stage of the progress
    arrays, settings : what it works on; settings must be plain json values
    on_progress : called ten times a second; may raise to stop, which ends the process

    Returns
    -------
    the arrays that the task returns, by name

    Raises
    ------
    ExplainError
        If the data don't allow it.
    EngineError
        If the process can't be started, or died.
    """
    with tempfile.TemporaryDirectory(prefix="dinomask-") as name:
        folder = Path(name)
        # numpy refuses objects when reading with allow_pickle=False, its default
        np.savez(folder / INPUT_FILE, **arrays)  # type: ignore[arg-type]
        (folder / SETTINGS_FILE).write_text(json.dumps(settings), encoding="utf-8")
        with (folder / ERROR_FILE).open("wb") as errors:
            process = _start(task, folder, errors)
            try:
                _wait(process, task, on_progress)
            finally:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()
        return _result(folder, process.returncode)


def _start(task: str, folder: Path, errors: IO[bytes]) -> subprocess.Popen[str]:
    # without the current folder among the modules
    command = [sys.executable, "-P", "-m", "dinomask.explain.apart_worker", task, str(folder)]
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NO_WINDOW
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            env=os.environ | ONE_THREAD,
            **options,
        )
    except OSError as error:
        raise EngineError(
            expected="to start a process for the computation",
            got=error.strerror or str(error),
            remedy="Close other programs, then try again.",
        ) from error


def _wait(process: subprocess.Popen[str], task: str, on_progress: OnProgress | None) -> None:
    """Pass the process's progress on until it ends."""
    started = time.monotonic()
    done, total = 0, 0
    for line in _lines(process):
        if line.startswith("progress "):
            done, total = (int(word) for word in line.split()[1:3])
        if on_progress is not None:
            on_progress(Progress(task, done, total, time.monotonic() - started))


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield what the process prints, and empty lines while it prints nothing."""
    waiting: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        if process.stdout is not None:
            try:
                for line in process.stdout:
                    waiting.put(line)
            # closed under way, when the work is stopped
            except ValueError:
                pass
        waiting.put(None)

    threading.Thread(target=read, name="dinomask-apart", daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=POLL_S)
        except queue.Empty:
            yield ""
            continue
        if line is None:
            process.wait()
            return
        yield line


def _result(folder: Path, code: int) -> dict[str, Array]:
    refused = folder / REFUSED_FILE
    if refused.is_file():
        raise ExplainError(**json.loads(refused.read_text(encoding="utf-8")))
    output = folder / OUTPUT_FILE
    if code != 0 or not output.is_file():
        said = (folder / ERROR_FILE).read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "nothing was said")
        raise EngineError(
            expected="a computation that ends with a result",
            got=f"a process that ended with status {code}: {last.strip()[:300]}",
            remedy="If memory is short, take fewer objects; else report this.",
        )
    with np.load(output, allow_pickle=False) as found:
        return dict(found)
