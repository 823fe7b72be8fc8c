"""PyTorch with linear layers in 8 bits, quantised as activations come (CPU only)."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from dinomask.nets.artefact import is_installed, require_library
from dinomask.nets.backends.run_on import Running
from dinomask.nets.backends.torch_weights import build

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.config import ModelConfig
    from dinomask.nets.backends.run_on import RunOn
    from dinomask.nets.catalogue import Manifest
    from dinomask.nets.centermask import CenterMask
    from dinomask.nets.detection import DensePredictions
    from dinomask.nets.network import RoiMaps


def load(folder: Path, manifest: Manifest, wanted: RunOn) -> Running:
    """Load the weights and pack linear layers in 8 bits."""
    device = wanted.require_cpu("a model with linear layers in 8 bits")
    torch.set_num_threads(wanted.threads)
    model = quantise_linear(build(folder, manifest)).to(memory_format=torch.channels_last)
    # its kernels take float32 alone
    return Running(Int8Network(model), device, torch.float32)


def quantise_linear(model: CenterMask) -> CenterMask:
    """Quantise the linear layers of a model in place: weights a channel, inputs as they come.

    PyTorch's own kernels where this version has them, else torchao's.

    Raises
    ------
    BackendError
        If it has neither.
    """
    # gone from later versions of PyTorch
    own = importlib.util.find_spec("torch.ao.quantization")
    quantisation = importlib.import_module("torch.ao.quantization") if own else None
    if hasattr(quantisation, "quantize_dynamic"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layers = {nn.Linear: cast("Any", quantisation).per_channel_dynamic_qconfig}
            cast("Any", quantisation).quantize_dynamic(model, layers, inplace=True)
        return model
    require_library("torchao")
    ao = importlib.import_module("torchao.quantization")
    ao.quantize_(model, ao.Int8DynamicActivationInt8WeightConfig())
    return model


def can_quantise() -> bool:
    """Tell whether PyTorch or torchao can do it."""
    return is_installed("torch.ao.quantization") or is_installed("torchao")


class Int8Network:
    """A model with layers that only compute forward, see `dinomask.nets.network.Network`."""

    def __init__(self, model: CenterMask) -> None:
        self._model = model

    @property
    def config(self) -> ModelConfig:
        """See `dinomask.nets.network.Network.config`."""
        return self._model.config

    @property
    def side_step_px(self) -> int:
        """See `dinomask.nets.network.Network.side_step_px`."""
        return self._model.side_step_px

    def expect(self, shape: tuple[int, ...], n_batches: int) -> None:
        """Do nothing: any shape is as good as another."""

    @torch.inference_mode()
    def look(self, tiles: Tensor) -> tuple[RoiMaps, DensePredictions]:
        """See `dinomask.nets.network.Network.look`."""
        return self._model.look(tiles)

    @torch.inference_mode()
    def draw(self, maps: RoiMaps, boxes: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """See `dinomask.nets.network.Network.draw`."""
        return self._model.draw(maps, boxes)

    def semantic(self, tiles: Tensor) -> Tensor:
        """See `dinomask.nets.network.Network.semantic`."""
        return self._model.semantic(tiles)

    def image_class(self, tiles: Tensor) -> Tensor:
        """See `dinomask.nets.network.Network.image_class`."""
        return self._model.image_class(tiles)

    def tokens(self, tiles: Tensor) -> Tensor:
        """See `dinomask.nets.network.Network.tokens`."""
        return self._model.tokens(tiles)
