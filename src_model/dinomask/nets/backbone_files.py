"""Weights of backbones from files: Meta's or timm's naming, pickles never executed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dinomask.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLASSIFIERS = ("head", "fc.", "classifier.")
"""How the names of a classifier's weights start; published files have one, a backbone none."""


def load_backbone_weights(network: nn.Module, path: Path) -> None:
    """Load weights in their authors' or timm's naming, position grid and patches resampled.

    Parameters
    ----------
    network : from timm, not yet pruned
    path : safetensors, or a ``.pth`` of tensors

    Raises
    ------
    ModelError
        If the file is missing, unreadable or of another architecture.
    """
    state = _read_state(path)
    try:
        missing, unexpected = network.load_state_dict(_convert(state, network), strict=False)
    except Exception as error:
        # what a foreign table makes the conversion stumble over can't be listed
        raise ModelError(
            expected="weights of the chosen backbone",
            got=f"{path.name}: {message_lines(error)[-1]}",
            remedy="Choose the backbone that the file was made for.",
        ) from error
    strangers = [k for k in unexpected if not k.startswith(CLASSIFIERS)]
    absent = [k for k in missing if not k.startswith(CLASSIFIERS)]
    if absent or strangers:
        raise ModelError(
            expected="weights of the chosen backbone",
            got=f"{path.name} with {len(absent)} missing and {len(strangers)} unknown tensors"
            f" (e.g. {(absent + strangers)[0]})",
            remedy="Choose the backbone that the file was made for.",
        )


def _convert(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Translate names and resample grids as timm does for the network's family."""
    family = sys.modules[type(network).__module__]
    convert = getattr(family, "checkpoint_filter_fn", None)
    if convert is None:
        return state
    return cast("Callable[..., dict[str, Tensor]]", convert)(state, network)


def message_lines(error: Exception) -> list[str]:
    """Return an error's message in lines; its kind where it has no message."""
    return [line.strip(" \t.") for line in str(error).splitlines()] or [type(error).__name__]


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(
            expected="a weights file",
            got=f"no file at {path}",
            remedy="Check the path, or use 'hub' to download.",
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only: nothing in a downloaded file is ever executed
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            expected="a safetensors file or a .pth of tensors",
            got=f"{path.name}: {message_lines(error)[0]}",
            remedy="Download the file again.",
        ) from error
    if not isinstance(state, dict):
        raise ModelError(
            expected="a table of tensors",
            got=f"{path.name} with a {type(state).__name__}",
            remedy="Give the file of weights as published.",
        )
    return state
