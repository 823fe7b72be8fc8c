"""A loaded model, ready to find instances in tiles."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from dinomask.errors import SettingsError
from dinomask.instances import Instances
from dinomask.nets.adapters import find_adapter, put_on
from dinomask.nets.backends import RunOn, choose_device, default_threads, load_network
from dinomask.nets.backends.torch_eager import placed
from dinomask.nets.centermask import CenterMask
from dinomask.nets.duplicates import drop_duplicates
from dinomask.nets.network import find_instances
from dinomask.nets.sparse24 import use_sparse_cores
from dinomask.nets.zoo import Manifest, require_torch
from dinomask.run.fusion import fuse
from dinomask.run.views import plan_views

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.config import DetectConfig, SegmentConfig
    from dinomask.nets.adapter_manifest import AdapterManifest
    from dinomask.nets.catalogue import Precision
    from dinomask.nets.network import Detections, Network

__all__ = ["VIEW_FLOOR", "Predictor", "choose_device", "default_threads", "to_instances"]

VIEW_FLOOR = 0.5
"""Share of the score threshold down to which test-time augmentation keeps what one view shows.
Scores below it count as 0 in the mean; a lower floor sends many more boxes to the mask head."""


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A model on its device.

    Attributes
    ----------
    network : what runs; of a checkpoint in evaluation mode, with the adapter merged
    manifest : what the checkpoint or the artefact of a backend is
    device : where it runs
    dtype : of matrix products; in 8 bits where the manifest's backend says so
    adapter : what the adapter on it is; None for the bare checkpoint
    """

    network: Network
    manifest: Manifest
    device: torch.device
    dtype: torch.dtype = torch.float32
    adapter: AdapterManifest | None = None

    @staticmethod
    def load(config: SegmentConfig) -> Predictor:
        """Load the model of a segmentation's settings, with its adapter.

        Raises
        ------
        ModelError
            If model or adapter are unknown or damaged, or don't belong together.
        BackendError
            If the backend that should run it isn't installed, or can't run it here.
        SettingsError
            If the device doesn't exist.
        """
        # before the weights, so that a wrong name is told at once
        folder = None if config.adapter is None else find_adapter(config.adapter)
        running, manifest = load_network(config.model, RunOn.of(config))
        network, adapter = running.network, None
        if folder is not None:
            model, adapter = put_on(require_torch(network, manifest), manifest, folder)
            network = placed(model, running.device)
        elif isinstance(network, CenterMask):
            use_sparse_cores(network, running.dtype)
        return Predictor(network, manifest, running.device, running.dtype, adapter)

    @staticmethod
    def of(config: SegmentConfig, predictor: Predictor | None = None) -> Predictor:
        """Return a predictor that was loaded before, or load that of the settings.

        Raises
        ------
        SettingsError
            If the settings name an adapter, and the predictor has none.
        """
        if predictor is None:
            return Predictor.load(config)
        if config.adapter is not None and predictor.adapter is None:
            raise SettingsError(
                expected=f"a predictor with the adapter {config.adapter!r} of the settings",
                got="one of the bare checkpoint",
                remedy="Load it with these settings, or leave the adapter out of them.",
            )
        return predictor

    @property
    def model(self) -> CenterMask:
        """The PyTorch model, for what needs its layers or gradients.

        Raises
        ------
        ModelError
            If a backend runs the model; the message names the checkpoint it was made of.
        """
        return require_torch(self.network, self.manifest)

    @property
    def adapter_sha256(self) -> str | None:
        """The hash of the adapter's tensors; None for the bare checkpoint."""
        return None if self.adapter is None else self.adapter.tensors_sha256

    @property
    def precision(self) -> Precision:
        """The arithmetic of its matrix products."""
        if self.dtype == torch.float32:
            return "fp32"
        return "bf16" if self.dtype == torch.bfloat16 else "fp16"

    @property
    def target_diameter_px(self) -> float:
        """Diameter the model wants objects to have, in model pixels."""
        return self.network.config.target_diameter_px

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
        return self.detect_batch(tile_cyx[None], config)[0]

    def detect_batch(self, tiles_bcyx: npt.NDArray[Any], config: DetectConfig) -> list[Instances]:
        """Find the instances of several tiles, which go through the network together.

        Parameters
        ----------
        tiles_bcyx : shape (B, 3, H, W), float32, as for `detect`
        config : as for `detect`

        Returns
        -------
        B times what `detect` returns
        """
        threshold = self.score_threshold(config)
        shape_yx = (tiles_bcyx.shape[2], tiles_bcyx.shape[3])
        views = plan_views(config)
        if len(views) == 1:
            looked = self._look(tiles_bcyx, config, threshold)
            return [drop_duplicates(found, shape_yx, config) for found in looked]
        # an object that is sure enough on average may be less sure in some views
        floor = threshold * VIEW_FLOOR
        parts: list[list[Instances]] = [[] for _ in tiles_bcyx]
        for view in views:
            shown = np.stack([view.apply(tile) for tile in tiles_bcyx])
            for seen, part in zip(self._look(shown, config, floor), parts, strict=True):
                part.append(drop_duplicates(view.restore(seen, shape_yx), shape_yx, config))
        scales = [view.scale for view in views]
        fused = [fuse(part, shape_yx, scales, self.target_diameter_px) for part in parts]
        sure = [found.take(found.scores >= threshold) for found in fused]
        return [drop_duplicates(found, shape_yx, config) for found in sure]

    def look(self, tiles_bcyx: npt.NDArray[Any], config: DetectConfig) -> list[Instances]:
        """Run the network alone, once; doubles are still in. Parameters as for `detect_batch`."""
        return self._look(tiles_bcyx, config, self.score_threshold(config))

    def _look(
        self, tiles_bcyx: npt.NDArray[Any], config: DetectConfig, threshold: float
    ) -> list[Instances]:
        """Run the network once; doubles are still in."""
        with self.autocast():
            found = find_instances(self.network, self._tiles(tiles_bcyx), config, threshold)
        return [to_instances(detections) for detections in found]

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
        with self.autocast():
            found = self.network.semantic(self._tiles(tile_cyx[None]))
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
        with self.autocast():
            found = self.network.image_class(self._tiles(tile_cyx[None]))
        return np.asarray(found[0].float().cpu())

    @torch.inference_mode()
    def tokens(self, tiles_bcyx: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Describe what tiles show, place by place, by the backbone's deepest features.

        Parameters
        ----------
        tiles_bcyx : as for `detect_batch`

        Returns
        -------
        shape (B, D, h, w), float32; of a transformer one vector a patch
        """
        with self.autocast():
            deepest = self.network.tokens(self._tiles(tiles_bcyx))
        return np.asarray(deepest.float().cpu())

    @torch.inference_mode()
    def layer_tokens(
        self, tiles_bcyx: npt.NDArray[Any], layers: Sequence[int]
    ) -> list[npt.NDArray[Any]]:
        """Describe what tiles show, place by place, by the features of any layers.

        Parameters
        ----------
        tiles_bcyx : as for `detect_batch`
        layers : from 0 up to the backbone's `n_layers`, ascending

        Returns
        -------
        arrays of shape (B, D, h, w), float32, a layer each
        """
        with self.autocast():
            shown = (self._tiles(tiles_bcyx) - self.model.mean) / self.model.std
            maps = self.model.backbone.layer_maps(shown, layers)
        return [np.asarray(m.float().cpu()) for m in maps]

    def _tiles(self, tiles_bcyx: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(tiles_bcyx).to(self.device, memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Return the context in which the network computes in its precision."""
        half = torch.bfloat16 if self.dtype == torch.float32 else self.dtype
        return torch.autocast(self.device.type, half, enabled=self.dtype != torch.float32)

    def score_threshold(self, config: DetectConfig) -> float:
        """Return the lowest score to report: the user's, else the adapter's or the model's own."""
        if config.score_threshold is not None:
            return config.score_threshold
        if self.adapter is not None and self.adapter.score_threshold is not None:
            return self.adapter.score_threshold
        return self.manifest.score_threshold


def to_instances(detections: Detections) -> Instances:
    """Bring detections to numpy; boxes become what the masks cover."""
    return Instances(
        detections.rois_yxyx_px.float().cpu().numpy(),
        detections.scores.float().cpu().numpy(),
        detections.classes.to(torch.int32).cpu().numpy(),
        np.round(detections.masks.float().cpu().numpy() * 255).astype(np.uint8),
    )
