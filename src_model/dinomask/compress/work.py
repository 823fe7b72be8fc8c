"""What a method has at hand beside the model: images, settings, a folder, someone to tell."""

from __future__ import annotations

import dataclasses
import time
import warnings
from typing import TYPE_CHECKING

from dinomask.run.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from dinomask.compress.material import Material
    from dinomask.compress.subject import Subject
    from dinomask.config import CompressConfig
    from dinomask.run.progress import OnProgress


class CompressionWarning(UserWarning):
    """Something that may spoil the result of a compression."""


@dataclasses.dataclass
class Work:
    """What is given to every method of one compression.

    Attributes
    ----------
    config : settings of all methods
    original : the uncompressed subject, adapter merged: the teacher; not to be changed
    material : the user's images; None if none were given
    device : where networks compute
    folder : where files of the result are written; it becomes the result's folder
    notes : remarks on the step under way, for its record
    """

    config: CompressConfig
    original: Subject
    material: Material | None
    device: torch.device
    folder: Path
    on_progress: OnProgress | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    _stage: str = ""
    _started: float = 0.0

    def begin(self, stage: str) -> None:
        """Note that a method begins."""
        self._stage, self._started = stage, time.monotonic()
        self.notes.clear()
        self.tell(0, 1)

    def tell(self, done: int, total: int) -> None:
        """Tell how far the method is; the listener raises `CancelledError` to stop it."""
        if self.on_progress is not None:
            elapsed = time.monotonic() - self._started
            self.on_progress(Progress(self._stage, done, total, elapsed))

    def note(self, text: str) -> None:
        """Add a remark to the step's record."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Add a remark to the step's record, and warn the user of it."""
        self.note(text)
        warnings.warn(text, CompressionWarning, stacklevel=3)
