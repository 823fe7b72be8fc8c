"""Remove channels of pyramid, detector and mask heads, which cost as much as a small backbone.

Channels that are added to each other are removed together: they form a group. A channel
counts by what the layers that read it would lose: its variance on the user's tiles times
their weights on it (He et al., "Channel pruning", arXiv 1707.06168). What the channels left
can tell of it, by linear regression, goes into those weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dinomask.compress.channel_groups import IOU_INPUT, Group, channel_groups, split_inputs
from dinomask.compress.statistics import InputStats
from dinomask.config import DetectConfig
from dinomask.nets.centermask import CenterMask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import ChannelPruneSettings, ModelConfig

STEP = 8
"""Widths that are left are multiples of this."""

WIDTHS = ("pyramid_width", "detail_width", "mask_width", "iou_width")

RIDGE = 1e-3
"""Of the regression, relative to the mean variance of the channels."""


class ChannelPruning:
    """Narrow the pyramid and the heads."""

    def reason_against(self, subject: Subject, settings: ChannelPruneSettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        config = subject.model.config
        if reason := why_not_narrower(config):
            return reason
        if narrowed(config.pyramid_width, settings.ratio) == config.pyramid_width:
            return f"its heads are {config.pyramid_width} channels wide, too few to remove any"
        return None

    def apply(self, subject: Subject, settings: ChannelPruneSettings, work: Work) -> Subject:
        """Return the subject with narrower heads."""
        model = subject.model
        widths: dict[str, Any] = {
            name: narrowed(getattr(model.config, name), settings.ratio) for name in WIDTHS
        }
        other = narrow_heads(model, widths, work.tiles(), work.tell, refit=settings.refit)
        before = ", ".join(f"{getattr(model.config, n)} → {w}" for n, w in widths.items())
        work.note(f"widths of pyramid, detail, masks and MaskIoU: {before}")
        return dataclasses.replace(subject, model=other)


def why_not_narrower(config: ModelConfig) -> str | None:
    """Return why channels can't be removed from a model's pyramid and heads, if so."""
    if config.semantic_classes or config.image_classes:
        return "it has heads for classes of pixels or images, which read the same channels"
    if config.shape is not None and any("mask_iou" in p for p, _ in config.shape.low_rank):
        return "layers of its heads are split in two already; prune first and split then"
    return None


def narrow_heads(
    model: CenterMask,
    widths: dict[str, Any],
    tiles: Tensor,
    tell: Callable[[int, int], None],
    *,
    refit: bool = True,
) -> CenterMask:
    """Return a model of the same backbone whose pyramid and heads are narrower.

    Parameters
    ----------
    model : without heads for classes of pixels or images; left as it is
    widths : of each of `WIDTHS`, at most the model's own
    tiles : shape (N, 3, H, W), on which the channels are measured
    tell : told how many tiles are done, of how many
    refit : whether what channels left can tell of those removed goes into the weights
    """
    groups = channel_groups(model)
    paths = [path for group in groups for path in group.readers]
    stats = measure_channels(model, paths, tiles, tell)
    other = CenterMask(dataclasses.replace(model.config, **widths))
    kept = {group.name: group.kept(model, stats, group.width(other.config)) for group in groups}
    narrow(model, other, groups, kept, stats if refit else {})
    return other.eval()


def narrowed(width: int, ratio: float) -> int:
    """Return the width that is left of a width."""
    return max(STEP, round(width * (1 - ratio) / STEP) * STEP)


@torch.inference_mode()
def measure_channels(
    model: CenterMask, paths: list[str], tiles: Tensor, tell: Callable[[int, int], None]
) -> dict[str, InputStats]:
    """Measure the channels that layers of the heads read, while objects are found in tiles."""
    stats: dict[str, InputStats] = {}
    with _watched(model, paths, stats):
        for i, tile in enumerate(tiles):
            model.detect(tile[None].to(model.mean.device), DetectConfig(max_instances=32), 0.05)
            tell(i + 1, len(tiles))
    return stats


@contextlib.contextmanager
def _watched(model: CenterMask, paths: list[str], stats: dict[str, InputStats]) -> Iterator[None]:
    def hook_of(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            channels = split_inputs(model, path, args[0])
            stats.setdefault(path, InputStats.empty(channels.shape[-1])).see(channels)

        return hook

    handles = [model.get_submodule(p).register_forward_pre_hook(hook_of(p)) for p in paths]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def narrow(
    model: CenterMask,
    other: CenterMask,
    groups: list[Group],
    kept: dict[str, Tensor],
    stats: dict[str, InputStats],
) -> None:
    """Fill a narrower model with what is left of a model's weights.

    Parameters
    ----------
    model, other : from, to
    kept : channels of each group that stay
    stats : of the layers that read them; those without read the channels left as before
    """
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for group in groups:
        rows = kept[group.name]
        for path in group.readers:
            _narrow_inputs(state, model, path, rows, group.width(model.config), stats.get(path))
    for group in groups:
        rows = kept[group.name]
        for path in group.writers:
            axis = 1 if isinstance(model.get_submodule(path), nn.ConvTranspose2d) else 0
            state[f"{path}.weight"] = state[f"{path}.weight"].index_select(axis, rows)
            if f"{path}.bias" in state:
                state[f"{path}.bias"] = state[f"{path}.bias"][rows]
        for path in group.norms:
            for name in (f"{path}.weight", f"{path}.bias"):
                state[name] = state[name][rows]
    other.load_state_dict(state)


def _narrow_inputs(
    state: dict[str, Tensor],
    model: CenterMask,
    path: str,
    rows: Tensor,
    n: int,
    stats: InputStats | None,
) -> None:
    weight = state[f"{path}.weight"]
    transposed = isinstance(model.get_submodule(path), nn.ConvTranspose2d)
    by_input = weight if transposed else weight.transpose(0, 1)
    cells = len(by_input) // n if path == IOU_INPUT else 1
    extra = by_input[n * cells :]
    read = by_input[: n * cells].reshape(n, cells, *by_input.shape[1:])
    if stats is None or not stats.count:
        left = read[rows]
    else:
        spread, offset = regression(stats, rows)
        left = torch.einsum("ck,c...->k...", spread.to(read), read)
        if f"{path}.bias" in state:
            lost = torch.einsum("c,c...->...", offset.to(read), read)
            state[f"{path}.bias"] = state[f"{path}.bias"] + _bias_of(lost, transposed)
    by_input = torch.cat([left.flatten(0, 1), extra])
    state[f"{path}.weight"] = by_input if transposed else by_input.transpose(0, 1)


def _bias_of(lost: Tensor, transposed: bool) -> Tensor:
    """Sum what constant inputs give over a kernel; shape (cells, outputs, …) to (outputs,)."""
    if lost.ndim == 2:
        return lost.sum(0)
    # a transposed kernel of stride 2 gives each output one of its places
    return lost.mean((0, 2, 3)) if transposed else lost.sum((0, 2, 3))


def regression(stats: InputStats, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return how all channels follow from those left: matrix (C, k) and constants (C,)."""
    covariance, mean = stats.covariance, stats.mean
    own = covariance[rows][:, rows]
    ridge = RIDGE * own.diagonal().mean().clamp(min=1e-12) * torch.eye(len(rows)).double()
    target = covariance[:, rows].clone()
    target[rows] += ridge
    spread = torch.linalg.solve(own + ridge, target.T).T
    return spread, mean - spread @ mean[rows]


CHANNELS = ChannelPruning()
