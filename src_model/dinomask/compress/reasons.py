"""Which methods a model and this machine can't do, and why.

``python -m dinomask.compress.reasons MODEL [ADAPTER]`` prints it as json, for a window
that must not load a model itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from dinomask.compress.methods import METHODS
from dinomask.config import CompressConfig
from dinomask.errors import DinomaskError, EngineError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping


def find_reasons(
    model: str, adapter: str | None = None, config: CompressConfig | None = None
) -> dict[str, str]:
    """Ask every method whether it can be applied.

    Parameters
    ----------
    model, adapter : names or folders
    config : settings of the methods

    Returns
    -------
    a clause for each method that can't, by its name

    Raises
    ------
    ModelError
        If the model can't be loaded as one of PyTorch.
    """
    from dinomask.compress.subject import Subject

    config = config or CompressConfig()
    subject = Subject.load(model, adapter)
    merged = subject.copied().merged()
    found = {}
    for method in METHODS:
        asked = merged if method.changes_model else subject
        reason = method.load().reason_against(asked, method.settings(config))
        if reason is not None:
            found[method.name] = reason
    return found


class Asker:
    """Asks in a process of its own, which takes some seconds; a new question ends the old one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def ask(self, model: str, adapter: str | None = None) -> Mapping[str, str] | None:
        """Do what `find_reasons` does; None if `end` was called meanwhile.

        Raises
        ------
        ModelError
            If the model can't be compressed at all.
        EngineError
            If there is no answer.
        """
        command = [sys.executable, "-P", "-m", "dinomask.compress.reasons", model]
        command += [] if adapter is None else [adapter]
        self.end()
        with self._lock:
            process = self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        said, complained = process.communicate()
        with self._lock:
            if self._process is not process:
                return None
            self._process = None
        return _answer(process.returncode, said, complained)

    def end(self) -> None:
        """Give up the question in hand, from any thread."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
            self._process = None


def _answer(code: int, said: str, complained: str) -> Mapping[str, str]:
    lines = said.splitlines()
    if code == 0 and lines:
        answer: dict[str, str] = json.loads(lines[-1])
        if "error" in answer:
            raise ModelError(**json.loads(answer["error"]))
        return answer
    raise EngineError(
        expected="to learn which methods this model can do",
        got=(complained.strip().splitlines() or ["no answer"])[-1],
        remedy="Choose the model again; if it stays, please report it.",
    )


def main(arguments: list[str]) -> None:
    """Print the reasons, or why there are none to be had."""
    try:
        answer = find_reasons(arguments[0], arguments[1] if len(arguments) > 1 else None)
    except DinomaskError as error:
        parts = {"expected": error.expected, "got": error.got, "remedy": error.remedy}
        answer = {"error": json.dumps(parts)}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
