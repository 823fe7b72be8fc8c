"""A loaded model, ready to find instances in tiles."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from dinomask.errors import SettingsError
from dinomask.instances import Instances
from dinomask.nets.duplicates import drop_duplicates
from dinomask.nets.zoo import Manifest, load_model

if TYPE_CHECKING:
    from dinomask.config import DetectConfig, SegmentConfig
    from dinomask.nets.centermask import CenterMask, Detections


def default_threads() -> int:
    """Return all cores but one, so that the window and other programs stay live."""
    return max(1, (os.cpu_count() or 2) - 1)


def choose_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    SettingsError
        If CUDA is asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            expected="a CUDA device",
            got="none that PyTorch can use",
            remedy="Use --device cpu, or install a driver and a CUDA build of PyTorch.",
        )
    return torch.device(name)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model on its device.

    Attributes
    ----------
    model : in evaluation mode
    manifest : what it is
    device : where it runs
    """

    model: CenterMask
    manifest: Manifest
    device: torch.device

    @staticmethod
    def load(config: SegmentConfig) -> Predictor:
        """Load the model of a segmentation's settings."""
        device = choose_device(config.device)
        torch.set_num_threads(config.threads or default_threads())
        model, manifest = load_model(config.model)
        model = model.to(device).to(memory_format=torch.channels_last)
        return Predictor(model, manifest, device)

    @property
    def target_diameter_px(self) -> float:
        """Diameter the model wants objects to have, in model pixels."""
        return self.model.config.target_diameter_px

    def detect(self, tile_cyx: npt.NDArray[Any], config: DetectConfig) -> Instances:
        """Find the instances of one tile.

        Parameters
        ----------
        tile_cyx : shape (3, H, W), float32, normalised; H and W multiples of 14
        config : limits and thresholds

        Returns
        -------
        boxes in model pixels of the tile, best score first, doubles dropped
        """
        tiles = torch.from_numpy(tile_cyx[None]).to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            detections = self.model.detect(tiles, config, self.score_threshold(config))[0]
        return drop_duplicates(to_instances(detections), tile_cyx.shape[1:], config)

    def score_threshold(self, config: DetectConfig) -> float:
        """Return the lowest score to report: the user's, else the model's own."""
        if config.score_threshold is None:
            return self.manifest.score_threshold
        return config.score_threshold


def to_instances(detections: Detections) -> Instances:
    """Bring detections to numpy; boxes become what the masks cover."""
    return Instances(
        detections.rois_yxyx_px.float().cpu().numpy(),
        detections.scores.float().cpu().numpy(),
        detections.classes.to(torch.int32).cpu().numpy(),
        np.round(detections.masks.float().cpu().numpy() * 255).astype(np.uint8),
    )
