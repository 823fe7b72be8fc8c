"""Which layers of the pyramid and the heads write, normalise and read the same channels."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from dinomask.compress.statistics import InputStats
    from dinomask.config import ModelConfig
    from dinomask.nets.centermask import CenterMask

Width = Literal["pyramid", "detail", "mask", "half", "iou"]


@dataclasses.dataclass(frozen=True)
class Group:
    """Channels that must stay or go together, since they are added to each other.

    Attributes
    ----------
    kind : by which of the architecture's widths they are counted
    writers : layers whose outputs they are
    norms : that scale them
    readers : layers whose inputs they are
    """

    name: str
    kind: Width
    writers: tuple[str, ...]
    norms: tuple[str, ...]
    readers: tuple[str, ...]

    def width(self, config: ModelConfig) -> int:
        """Return the number of these channels in an architecture."""
        if self.kind == "half":
            return config.mask_width // 2
        return int(getattr(config, f"{self.kind}_width"))

    def kept(self, model: CenterMask, stats: dict[str, InputStats], n: int) -> Tensor:
        """Return the n channels that the readers would miss most, ascending."""
        total = torch.zeros(self.width(model.config), dtype=torch.float64)
        for path in self.readers:
            layer = model.get_submodule(path)
            weight = layer.get_parameter("weight").detach().double()
            by_input = weight if isinstance(layer, nn.ConvTranspose2d) else weight.transpose(0, 1)
            size = len(total)
            cells = len(by_input) // size if path == IOU_INPUT else 1
            strength = by_input[: size * cells].reshape(size, -1).square().sum(1)
            own = stats.get(path)
            variance = own.covariance.diagonal() if own is not None else torch.ones_like(strength)
            score = strength * variance
            # layers answer on scales of their own
            total += score / score.sum().clamp(min=1e-30)
        return total.topk(n).indices.sort().values


def split_inputs(model: CenterMask, path: str, inputs: Tensor) -> Tensor:
    """Return a reader's inputs with their channels last, those of other groups left out."""
    if path == IOU_INPUT:
        return inputs.reshape(len(inputs), model.config.mask_width, -1).movedim(1, -1)
    if isinstance(model.get_submodule(path), nn.Linear):
        return inputs
    channels = inputs.movedim(1, -1)
    return channels[..., : channels.shape[-1] - EXTRA.get(path, 0)]


IOU_INPUT = "mask_iou.hidden.0"
"""A linear layer that reads all places of each channel, one channel after another."""

EXTRA = {"mask.refine": 16, "mask_iou.convs.0": 1}
"""Channels of other origin that a reader gets behind those of its group."""


PYRAMID: tuple[tuple[str, Width, str, str, str], ...] = (
    (
        "fine",
        "detail",
        "pyramid.stem.to_fine.0.0 pyramid.stem.to_fine.*.out pyramid.up_to_fine"
        " pyramid.lateral_fine.0",
        "pyramid.stem.to_fine.0.1 pyramid.lateral_fine.1",
        "pyramid.stem.to_fine.*.block.0 pyramid.stem.to_7.0.0 pyramid.out_fine.0",
    ),
    (
        "for masks",
        "detail",
        "pyramid.out_fine.0",
        "pyramid.out_fine.1",
        "mask.convs.0 mask_iou.convs.0",
    ),
    (
        "at 7",
        "pyramid",
        "pyramid.stem.to_7.0.0 pyramid.stem.to_7.*.out pyramid.up_to_7 pyramid.lateral_7.0",
        "pyramid.stem.to_7.0.1 pyramid.lateral_7.1",
        "pyramid.stem.to_7.*.block.0 pyramid.stem.to_14.0.0 pyramid.out_7.0",
    ),
    (
        "at 14",
        "pyramid",
        "pyramid.stem.to_14.0.0 pyramid.stem.to_14.*.out pyramid.lateral.0",
        "pyramid.stem.to_14.0.1 pyramid.lateral.1",
        "pyramid.stem.to_14.*.block.0 pyramid.out_14.0",
    ),
    (
        "levels",
        "pyramid",
        "pyramid.out_7.0 pyramid.out_14.0 pyramid.out_28.0",
        "pyramid.out_7.1 pyramid.out_14.1 pyramid.out_28.1",
        "detector.class_tower.0 detector.box_tower.0 pyramid.up_to_7 pyramid.up_to_fine"
        " pyramid.out_28.0",
    ),
)
"""Name, width, writers, norms and readers of the pyramid's groups; some models lack a lateral,
some have more blocks."""

STEM_STAGES: tuple[tuple[str, Width], ...] = (
    ("to_fine", "detail"),
    ("to_7", "pyramid"),
    ("to_14", "pyramid"),
)
"""Stages of the detail stem, and the width that counts the channels within their blocks."""


def channel_groups(model: CenterMask) -> list[Group]:
    """Return all groups of a model without heads for classes of pixels and images."""
    return [*_pyramid_groups(model), *_detector_groups(model), *_mask_groups(model)]


def _pyramid_groups(model: CenterMask) -> list[Group]:
    there = dict(model.named_modules())
    groups = []
    for name, kind, *roles in PYRAMID:
        writers, norms, readers = (
            tuple(path for like in role.split() for path in fnmatch.filter(there, like))
            for role in roles
        )
        groups.append(Group(name, kind, writers, norms, readers))
    return [*groups, *_stem_block_groups(model)]


def _stem_block_groups(model: CenterMask) -> list[Group]:
    groups = []
    for (stage, kind), n in zip(STEM_STAGES, model.config.stem_blocks, strict=True):
        for i in range(1, n + 1):
            path = f"pyramid.stem.{stage}.{i}"
            inner = (f"{path}.block.0",), (f"{path}.block.1",), (f"{path}.out",)
            groups.append(Group(f"{stage} within {i}", kind, *inner))
    return groups


def _detector_groups(model: CenterMask) -> list[Group]:
    n = model.config.head_convs
    ends = {"class_tower": ("classes",), "box_tower": ("box", "centerness")}
    groups = []
    for tower, heads in ends.items():
        for i in range(n):
            last = tuple(f"detector.{head}" for head in heads)
            readers = last if i == n - 1 else (f"detector.{tower}.{3 * (i + 1)}",)
            path = f"detector.{tower}.{3 * i}"
            norm = f"detector.{tower}.{3 * i + 1}"
            groups.append(Group(f"{tower} {i}", "pyramid", (path,), (norm,), readers))
    return groups


def _mask_groups(model: CenterMask) -> list[Group]:
    n = model.config.mask_convs
    groups = []
    for i in range(n):
        reader = "mask.up" if i == n - 1 else f"mask.convs.{2 * (i + 1)}"
        groups.append(Group(f"mask {i}", "mask", (f"mask.convs.{2 * i}",), (), (reader,)))
    return [
        *groups,
        Group("mask up", "half", ("mask.up",), (), ("mask.refine",)),
        Group("mask refined", "half", ("mask.refine",), (), ("mask.out",)),
        Group("quality 0", "mask", ("mask_iou.convs.0",), (), ("mask_iou.convs.2",)),
        Group("quality 1", "mask", ("mask_iou.convs.2",), (), ("mask_iou.hidden.0",)),
        Group("quality 2", "iou", ("mask_iou.hidden.0",), (), ("mask_iou.hidden.2",)),
        Group("quality 3", "iou", ("mask_iou.hidden.2",), (), ("mask_iou.hidden.4",)),
    ]
