"""Split linear layers in two of low rank, where that makes them smaller.

With activations: SVD of the weights times the square root of the inputs' covariance
(whitening; Wang et al., "SVD-LLM", arXiv 2403.07378), so that what is left out is what the
layer's outputs vary least in on the user's images. The mean goes into the bias.

How much energy a layer can lose can't be told from the layer: what is small within a block
may be what the heads read. So the outcome is judged by the objects that are found, and less
is left out where they change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from dinomask.compress.calibration import Judge
from dinomask.compress.prune import with_shape
from dinomask.compress.statistics import measure_inputs
from dinomask.config import NetworkShape
from dinomask.nets.low_rank import split_linear

if TYPE_CHECKING:
    from dinomask.compress.statistics import InputStats
    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import SvdSettings
    from dinomask.nets.centermask import CenterMask

IOU_LAYER = "mask_iou.hidden.0"
"""The largest layer outside the backbone; split by its weights alone."""

RANK_STEP = 8
"""Ranks are multiples of this: processors multiply by so many numbers at a time, so that the
ranks between gain nothing."""

TRIES = 3
"""Layers are split so often, each time losing a tenth of the energy; the last outcome is kept."""

FLOOR = 1e-4
"""Least variance of an input, relative to the mean of all, so that none is divided by zero."""


class Svd:
    """Keep of each layer the directions that carry a given share of its energy."""

    def reason_against(self, subject: Subject, settings: SvdSettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        model = subject.model
        shape = model.config.shape or NetworkShape()
        if shape.shared:
            return "its blocks share weights; split first and share then"
        if not linear_paths(model):
            return f"{model.config.backbone} has no linear layers in its blocks"
        return None

    def apply(self, subject: Subject, settings: SvdSettings, work: Work) -> Subject:
        """Split the layers in which rank pays; less where objects would change too much."""
        paths = linear_paths(subject.model)
        stats: dict[str, InputStats] = {}
        if settings.whitened:
            stats = measure_inputs(subject.model, paths, work.tiles(), work.tell, importance=False)
        judge = Judge.of(subject, work)
        for attempt in range(TRIES):
            lost = (1 - settings.energy) / 10**attempt
            split = subject.copied()
            found = split_all(split.model, paths, 1 - lost, stats)
            agreement = judge.agreement(split.model)
            if agreement >= settings.least_agreement:
                break
        judge.tell(agreement, settings.least_agreement, work)
        ranks = sorted(found.values())
        middle = f", of rank {ranks[len(ranks) // 2]} in the median" if ranks else ""
        work.note(f"{len(found)} of {len(paths) + 1} layers split{middle}; energy {1 - lost:g}")
        return split


def split_all(
    model: CenterMask, paths: list[str], energy: float, stats: dict[str, InputStats]
) -> dict[str, int]:
    """Split the layers in which rank pays, in place; return all ranks by path."""
    found = dict((model.config.shape or NetworkShape()).low_rank)
    for path in [*paths, IOU_LAYER]:
        if isinstance(model.get_submodule(path), nn.Linear):
            rank = split_if_it_pays(model, path, energy, stats.get(path))
            found |= {} if rank is None else {path: rank}
    with_shape(model, low_rank=tuple(found.items()))
    return found


def linear_paths(model: CenterMask) -> list[str]:
    """Return the paths of the linear layers in the backbone's blocks."""
    paths = []
    for block in model.backbone.block_paths:
        root = f"backbone.{block}"
        for name, module in model.get_submodule(root).named_modules():
            if type(module) is nn.Linear and not name.endswith(("up", "down")):
                paths.append(f"{root}.{name}")
    return paths


@torch.no_grad()
def split_if_it_pays(
    model: CenterMask, path: str, energy: float, stats: InputStats | None
) -> int | None:
    """Split a layer in place; return its rank, or None where it would not become smaller."""
    layer = cast("nn.Linear", model.get_submodule(path))
    up, down, rank = low_rank_factors(layer.weight, energy, stats, RANK_STEP)
    rows, columns = layer.weight.shape
    if rank * (rows + columns) >= rows * columns:
        return None
    bias = layer.bias
    if bias is not None and stats is not None:
        lost = layer.weight.double().cpu() - up @ down
        bias = nn.Parameter(bias + (lost @ stats.mean).to(bias))
    split_linear(model, path, rank).load(up.float(), down.float(), bias)
    return rank


def low_rank_factors(
    weight: Tensor, energy: float, stats: InputStats | None, step: int = 1
) -> tuple[Tensor, Tensor, int]:
    """Return factors of shapes (outputs, r) and (r, D) that keep a share of the energy, and r.

    Parameters
    ----------
    weight : shape (outputs, D)
    energy : share of the sum of the squared singular values
    stats : of the inputs; None takes the energy of the weights
    step : r is a multiple of this, or all there are
    """
    whole = weight.detach().double().cpu()
    root = inverse = None
    if stats is not None:
        root, inverse = _roots(stats.covariance)
    u, s, v = torch.linalg.svd(whole if root is None else whole @ root, full_matrices=False)
    carried = s.square().cumsum(0) / s.square().sum().clamp(min=1e-30)
    least = int((carried < energy).sum()) + 1
    rank = min(-(-least // step) * step, len(s))
    balance = s[:rank].sqrt()
    down = balance[:, None] * v[:rank]
    return u[:, :rank] * balance, down if inverse is None else down @ inverse, rank


def _roots(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the symmetric square root of a covariance, and its inverse."""
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp(min=float(values.mean()) * FLOOR + 1e-12)
    return (vectors * values.sqrt()) @ vectors.T, (vectors / values.sqrt()) @ vectors.T


SVD = Svd()
