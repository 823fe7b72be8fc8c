"""Weights set to zero: everywhere small ones, or two of each four.

Zeros are left out of the files (`dinomask.nets.packing`). They make a model smaller, not
faster: products with zeros take as long as others, except 2:4 on NVIDIA GPUs from Ampere on
(Mishra et al., arXiv 2104.08378).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dinomask.compress.factorise import linear_paths
from dinomask.compress.prune import with_shape
from dinomask.nets.sparse24 import fits, has_sparse_cores

if TYPE_CHECKING:
    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import SparsifySettings
    from dinomask.nets.centermask import CenterMask

SMALLEST = 4096
"""Matrices and kernels with fewer weights stay whole: they are small and matter most."""


class Sparsify:
    """Set the smallest weights of each matrix and kernel to zero."""

    def reason_against(self, subject: Subject, settings: SparsifySettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        return None

    @torch.no_grad()
    def apply(self, subject: Subject, settings: SparsifySettings, work: Work) -> Subject:
        """Change the weights in place."""
        zeros = total = 0
        for weight in sparsifiable(subject.model):
            weight.mul_(largest(weight, 1 - settings.ratio))
            zeros += int((weight == 0).sum())
            total += weight.numel()
        work.note(
            f"{zeros / max(total, 1):.0%} of {total} weights are zero; smaller files, no more speed"
        )
        return subject


class Sparse24:
    """Keep the two largest of each four weights of the blocks' linear layers."""

    def reason_against(self, subject: Subject, settings: None) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        reason = reason_against_24(subject.model)
        if reason is None and not has_sparse_cores():
            return (
                "two of four zeros speed up NVIDIA GPUs from Ampere on (CUDA) alone;"
                " sparsify makes files smaller anywhere"
            )
        return reason

    @torch.no_grad()
    def apply(self, subject: Subject, settings: None, work: Work) -> Subject:
        """Change the weights in place, and note it in the architecture."""
        model = subject.model
        for path in sparse_24_paths(model):
            weight = model.get_submodule(path).get_parameter("weight")
            weight.mul_(two_of_four(weight))
        with_shape(model, sparse_24=True)
        return subject


def sparsifiable(model: CenterMask) -> list[Tensor]:
    """Return the matrices and kernels of linear layers and convolutions, large ones only."""
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    found = [m.weight for m in model.modules() if isinstance(m, layers)]
    # shared weights once
    return list({id(w): w for w in found if w.numel() >= SMALLEST}.values())


def largest(weight: Tensor, share: float) -> Tensor:
    """Return where a share of the weights of largest magnitude is: 1 there, else 0."""
    n = max(1, round(share * weight.numel()))
    rows = weight.detach().abs().flatten().topk(n).indices
    mask = torch.zeros(weight.numel(), dtype=weight.dtype, device=weight.device)
    mask[rows] = 1
    return mask.view_as(weight)


def two_of_four(weight: Tensor) -> Tensor:
    """Return 1 for the two largest of each four neighbours in a row, else 0, as the weight."""
    groups = weight.detach().abs().reshape(-1, 4)
    mask = torch.zeros_like(groups).scatter(1, groups.topk(2, dim=1).indices, 1)
    return mask.view_as(weight)


def sparse_24_paths(model: CenterMask) -> list[str]:
    """Return the linear layers that can have the pattern: both sides multiples of 64."""
    return [
        path
        for path in linear_paths(model)
        if fits(model.get_submodule(path).get_parameter("weight"))
    ]


def reason_against_24(model: CenterMask) -> str | None:
    """Say why no layer can have the pattern; None if one can."""
    if not sparse_24_paths(model):
        return f"{model.config.backbone} has no linear layers with sides that are multiples of 64"
    return None


SPARSIFY = Sparsify()
SPARSE_24 = Sparse24()
