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
from dinomask.run.fusion import fuse
from dinomask.run.views import plan_views

if TYPE_CHECKING:
    from dinomask.config import DetectConfig, SegmentConfig
    from dinomask.nets.centermask import CenterMask, Detections

VIEW_FLOOR = 0.5
"""Share of the score threshold down to which test-time augmentation keeps what one view shows.
Scores below it count as 0 in the mean; a lower floor sends many more boxes to the mask head."""


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
        config : limits, thresholds and, with test-time augmentation, the views

        Returns
        -------
        boxes in model pixels of the tile, best score first, doubles dropped
        """
        threshold = self.score_threshold(config)
        shape_yx = (tile_cyx.shape[1], tile_cyx.shape[2])
        views = plan_views(config)
        if len(views) == 1:
            return drop_duplicates(self._look(tile_cyx, config, threshold), shape_yx, config)
        # an object that is sure enough on average may be less sure in some views
        floor = threshold * VIEW_FLOOR
        found = []
        for view in views:
            seen = view.restore(self._look(view.apply(tile_cyx), config, floor), shape_yx)
            found.append(drop_duplicates(seen, shape_yx, config))
        fused = fuse(found, shape_yx)
        return drop_duplicates(fused.take(fused.scores >= threshold), shape_yx, config)

    def _look(
        self, tile_cyx: npt.NDArray[Any], config: DetectConfig, threshold: float
    ) -> Instances:
        """Run the network once; doubles are still in."""
        with self._autocast():
            return to_instances(self.model.detect(self._tiles(tile_cyx), config, threshold)[0])

    def semantic(self, tile_cyx: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Find the class of every pixel of one tile.

        Parameters
        ----------
        tile_cyx : as for `detect`

        Returns
        -------
        shape (S, H, W), float32; probabilities, background first

        Raises
        ------
        ModelError
            If the model has no head for it.
        """
        with self._autocast():
            found = self.model.semantic(self._tiles(tile_cyx))
        return np.asarray(found[0].float().cpu())

    def image_class(self, tile_cyx: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Find the class of what one tile shows.

        Parameters
        ----------
        tile_cyx : as for `detect`

        Returns
        -------
        shape (K,), float32; probabilities

        Raises
        ------
        ModelError
            If the model has no head for it.
        """
        with self._autocast():
            found = self.model.image_class(self._tiles(tile_cyx))
        return np.asarray(found[0].float().cpu())

    def _tiles(self, tile_cyx: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(tile_cyx[None]).to(self.device, memory_format=torch.channels_last)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

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
