"""How deep each weight of a backbone lies, whatever its family."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCK = re.compile(r"(?:\w+\.)?(?:blocks|layer\d+|(?:layers|stages)\.\d+\.blocks)\.\d+(?:\.\d+)?")
"""Paths of blocks in timm: a transformer's, a stage's, a ResNet's or an EfficientNet's."""


def block_paths(backbone: nn.Module) -> list[str]:
    """Return the paths of all blocks, transformer or residual ones, first to last."""
    paths: list[str] = []
    for path, module in backbone.named_modules():
        # EfficientNets number their stages as others do their blocks
        if not _BLOCK.fullmatch(path) or isinstance(module, nn.Sequential):
            continue
        if not any(path.startswith(f"{known}.") for known in paths):
            paths.append(path)
    return paths


def weight_depths(backbone: nn.Module, paths: Sequence[str] | None = None) -> dict[str, int]:
    """Return the depth of each parameter: 0 before the first block, i in the i-th.

    What stands between two blocks, such as a downsampling, belongs to the
    second; what stands behind the last one, such as a norm, to the last.

    Parameters
    ----------
    backbone : its modules are defined in the order in which they are used
    paths : of the blocks, first to last; None finds them
    """
    paths = block_paths(backbone) if paths is None else list(paths)
    depths: dict[str, int] = {}
    passed = 0
    waiting: list[str] = []
    for name, _ in backbone.named_parameters():
        inside = [i for i, path in enumerate(paths, 1) if name.startswith(f"{path}.")]
        if inside:
            passed = inside[0]
        elif passed:
            waiting.append(name)
            continue
        depths |= dict.fromkeys(waiting, passed)
        waiting = []
        depths[name] = passed
    return depths | dict.fromkeys(waiting, passed)
