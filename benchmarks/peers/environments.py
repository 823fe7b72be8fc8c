"""Virtual environments for the peers, one each, built once and kept.

StarDist needs TensorFlow and an older numpy, Cellpose before version 4 an own set of
packages; neither belongs into DINOmask's environment.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dinomask.errors import DinomaskError
from peers.runner_files import read_json, write_json

COMPLETE_FILE = "complete.json"
"""Stands in an environment in which everything was installed."""


class BuildError(DinomaskError):
    """An environment that can't be built."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """What a peer needs.

    Attributes
    ----------
    name : of its folder
    python : version, as ``3.11``
    requirements : as pip takes them, all exact where the result depends on them
    """

    name: str
    python: str
    requirements: tuple[str, ...]

    def build(self, folder: Path) -> Path:
        """Return the environment's Python; install what is missing.

        Parameters
        ----------
        folder : where environments lie, this one in ``folder/NAME``

        Raises
        ------
        BuildError
            If there is no such Python, or an installation fails.
        """
        home = folder / self.name
        python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        wanted = {"python": self.python, "requirements": list(self.requirements)}
        if read_json(home / COMPLETE_FILE) == wanted and python.exists():
            return python
        print(f"{self.name}: building an environment in {home}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        if uv := _find_uv():
            _run([uv, "venv", "--quiet", "--clear", "--python", self.python, str(home)])
            _run([uv, "pip", "install", "--quiet", "--python", str(python), *self.requirements])
        else:
            _run([self._find_python(), "-m", "venv", "--clear", str(home)])
            _run([str(python), "-m", "pip", "install", "--quiet", *self.requirements])
        write_json(home / COMPLETE_FILE, wanted)
        return python

    def _find_python(self) -> str:
        if sys.version_info[:2] == tuple(int(n) for n in self.python.split(".")):
            return sys.executable
        found = shutil.which(f"python{self.python}")
        if found is None:
            raise BuildError(
                expected=f"Python {self.python} for {self.name}",
                got=f"only Python {sys.version.split()[0]}, and no uv that could fetch it",
                remedy=f"Install uv (https://docs.astral.sh/uv) or Python {self.python}.",
            )
        return found


def _find_uv() -> str | None:
    """Return uv of this environment, which `make install` put there, or of the machine."""
    own = Path(sys.executable).with_name("uv.exe" if os.name == "nt" else "uv")
    return str(own) if own.exists() else shutil.which("uv")


def _run(command: list[str]) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        lines = (finished.stderr or finished.stdout).strip().splitlines()
        raise BuildError(
            expected=f"`{' '.join(command[:4])} …` to succeed",
            got=" / ".join(lines[-3:]) or f"exit status {finished.returncode}",
            remedy="Check the connection to the package index and run the same command again.",
        )
