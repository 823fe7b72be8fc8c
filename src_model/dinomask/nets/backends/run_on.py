"""Where and how a network shall run, and what came of it."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import torch

from dinomask.config.segment import TileConfig
from dinomask.errors import SettingsError
from dinomask.nets.precision import choose_dtype

if TYPE_CHECKING:
    from dinomask.config import SegmentConfig
    from dinomask.nets.catalogue import Manifest, Precision
    from dinomask.nets.network import Network


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
class RunOn:
    """What the user asked for.

    Attributes
    ----------
    device : ``auto``, ``cpu`` or ``cuda``
    threads : of the CPU
    precision : of products in floating point
    tile_px, batch : of the tiles that will come most often; others work too
    """

    device: str = "auto"
    threads: int = 1
    precision: Precision = "auto"
    tile_px: int = TileConfig.tile_px
    batch: int = 1

    @staticmethod
    def of(config: SegmentConfig) -> RunOn:
        """Return what a segmentation's settings ask for."""
        return RunOn(
            config.device,
            config.threads or default_threads(),
            config.precision,
            config.tiles.tile_px,
            config.batch or 1,
        )

    def require_cpu(self, title: str) -> torch.device:
        """Return the CPU, for a backend that runs nowhere else.

        Raises
        ------
        SettingsError
            If another device was asked for.
        """
        if self.device == "cuda":
            raise SettingsError(
                expected=f"--device cpu or auto for {title}",
                got="cuda",
                remedy="Use the checkpoint it was made of on CUDA, or leave the device out.",
            )
        return torch.device("cpu")

    def dtype(self, manifest: Manifest, device: torch.device) -> torch.dtype:
        """Return the type of products in floating point: the user's choice, or the model's."""
        precision = manifest.precision if self.precision == "auto" else self.precision
        return choose_dtype(precision, device)


@dataclasses.dataclass(frozen=True)
class Running:
    """A loaded network.

    Attributes
    ----------
    network : ready to look at tiles on `device`
    device : where tiles go
    dtype : of its products in floating point
    """

    network: Network
    device: torch.device
    dtype: torch.dtype = torch.float32
