"""What was measured so far, kept on disk: a bench that was stopped goes on with what is missing."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.nets.zoo import write_atomically
from dinomask.tiles.outputs import output_error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dinomask.instances import Array

KEY_FILE = "bench.json"


class Units:
    """The folder of a bench: a small file for each thing that was measured.

    Parameters
    ----------
    folder : made if missing; emptied if it is of another bench
    key : all that the results depend on; anything json can hold

    Raises
    ------
    OutputError
        If the folder can't be written.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder = folder
        wanted = json.dumps(key, indent=1, sort_keys=True, default=str)
        path = folder / KEY_FILE
        if not path.is_file() or path.read_text(encoding="utf-8") != wanted:
            for name in ("units", "labels"):
                shutil.rmtree(folder / name, ignore_errors=True)
            write_atomically(path, wanted.encode())
        try:
            (folder / "labels").mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(folder, error) from error

    def get(self, name: str) -> dict[str, Any] | None:
        """Return what was measured under a name; None if it was not, or its file is torn."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "units" / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return found

    def put(self, name: str, measured: Mapping[str, Any]) -> None:
        """Keep what was measured.

        Raises
        ------
        OutputError
            If it can't be written.
        """
        write_atomically(self.folder / "units" / f"{name}.json", json.dumps(measured).encode())

    def labels_path(self, variant: int, image: int) -> Path:
        """Return where the label image of a variant (by number) of an image lies."""
        return self.folder / "labels" / f"{image:04d}-{variant:02d}.npz"

    def labels(self, variant: int, image: int) -> Array:
        """Return a label image, shape (Y, X), int32."""
        with np.load(self.labels_path(variant, image)) as file:
            labels: Array = file["labels_yx"]
        return labels
