"""What a method has at hand beside the model: images, settings, a folder, someone to tell."""

from __future__ import annotations

import dataclasses
import time
import warnings
from typing import TYPE_CHECKING

import torch

from dinomask.errors import DataError
from dinomask.run.predictor import Predictor
from dinomask.run.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

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
    _target_px: float | None = None
    _predictor: Predictor | None = None
    _tiles: torch.Tensor | None = None
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

    def predictor(self) -> Predictor:
        """Return the uncompressed model, ready to predict."""
        if self._predictor is None:
            subject = self.original
            model = subject.model.to(self.device).to(memory_format=torch.channels_last)
            self._predictor = Predictor(model, subject.manifest, self.device)
        return self._predictor

    def tiles(self) -> torch.Tensor:
        """Return the user's tiles to measure on, shape (N, 3, H, W).

        Raises
        ------
        DataError
            If no image can be used.
        """
        if self._tiles is None:
            material = self.require_material()
            material.read(self.predictor(), self.on_progress)
            target_px = self._target_px or self.predictor().target_diameter_px
            self._tiles = material.tiles(
                self.predictor(), self.config.tiles, self.config.seed, target_px=target_px
            )
        return self._tiles

    def show_objects_at(self, target_px: float) -> None:
        """Make the tiles of later methods show objects at another diameter, in model pixels."""
        self._target_px, self._tiles = target_px, None

    def require_material(self) -> Material:
        """Return the user's images.

        Raises
        ------
        DataError
            If there are none.
        """
        if self.material is None:
            raise DataError(
                expected="images to calibrate on",
                got="none",
                remedy="Add --data and a folder of images like those to segment.",
            )
        return self.material

    def note(self, text: str) -> None:
        """Add a remark to the step's record."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Add a remark to the step's record, and warn the user of it."""
        self.note(text)
        warnings.warn(text, CompressionWarning, stacklevel=3)
