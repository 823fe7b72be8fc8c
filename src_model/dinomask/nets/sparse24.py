"""Products with weights of which two of each four are zero, on GPUs that skip them.

Mishra et al., "Accelerating sparse deep neural networks", arXiv 2104.08378; PyTorch's
semi-structured tensors. Elsewhere such weights are computed with like any others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

if TYPE_CHECKING:
    from dinomask.nets.centermask import CenterMask

AMPERE = (8, 0)
"""Compute capability from which CUDA skips the zeros."""

MULTIPLE = 64
"""Both sides of a matrix must be multiples of this."""


def has_sparse_cores(device: torch.device | None = None) -> bool:
    """Tell whether a GPU, or this machine's if none is given, skips such zeros."""
    if not torch.cuda.is_available() or (device is not None and device.type != "cuda"):
        return False
    return torch.cuda.get_device_capability(device) >= AMPERE


def fits(weight: Tensor) -> bool:
    """Tell whether a matrix can have the pattern."""
    return weight.ndim == 2 and all(side % MULTIPLE == 0 for side in weight.shape)


def has_pattern(weight: Tensor) -> bool:
    """Tell whether at most two of each four neighbours in a row are other than zero."""
    return fits(weight) and bool(((weight.reshape(-1, 4) != 0).sum(1) <= 2).all())


def use_sparse_cores(model: CenterMask, dtype: torch.dtype) -> int:
    """Store the weights that have the pattern as the GPU skips them, in place.

    Only for predicting, in half precision; such weights can't be saved or learned.

    Returns
    -------
    the number of layers; 0 where the model's architecture has no such pattern, or the
    device or the precision can't use it
    """
    shape = model.config.shape
    device = model.mean.device
    wanted = shape is not None and shape.sparse_24
    if not wanted or dtype == torch.float32 or not has_sparse_cores(device):
        return 0
    layers = [
        module
        for path in model.backbone.block_paths
        for module in model.backbone.get_submodule(path).modules()
        if isinstance(module, nn.Linear) and has_pattern(module.weight)
    ]
    for layer in layers:
        sparse = to_sparse_semi_structured(layer.weight.detach().to(dtype).contiguous())
        layer.weight = nn.Parameter(sparse, requires_grad=False)
    return len(layers)
