"""The model as two modules that can be exported for tiles and numbers of objects of any size."""

from __future__ import annotations

import copy
import types
from typing import TYPE_CHECKING, cast

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dinomask.errors import BackendError

if TYPE_CHECKING:
    from dinomask.nets.centermask import CenterMask
    from dinomask.nets.network import Network

CHECKED_SIZES = ((1, 112, 112), (1, 70, 98), (2, 84, 126))
"""Batch, height and width at which an export is compared with the model; none is the one that
it was traced at."""

CUBIC = -0.5
"""The parameter of cubic interpolation that PyTorch uses with antialiasing (as Pillow does)."""


class Look(nn.Module):
    """Tiles to all that is known of every place; outputs as `dinomask.nets.backends.graphs` says.

    Parameters
    ----------
    model : is copied, so that exporting leaves it as it is
    """

    def __init__(self, model: CenterMask) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval()
        for module in self.model.modules():
            if isinstance(module, VisionTransformer) and module.pos_embed is not None:
                setattr(module, "_pos_embed", types.MethodType(add_positions, module))  # noqa: B010

    def forward(self, tiles: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, H, W) to the outputs, in the order of their names."""
        maps = self.model.backbone_maps(tiles)
        pyramid = self.model.features(tiles, maps)
        dense = self.model.dense(pyramid)
        outputs = [
            pyramid.fine,
            self.model.mask.detail(pyramid.detail),
            dense.class_logits,
            dense.distances_px,
            dense.centerness_logits,
            maps[-1],
        ]
        if self.model.semantic_head is not None:
            size = (tiles.shape[-2], tiles.shape[-1])
            outputs.append(self.model.semantic_head(pyramid, size))
        if self.model.image_head is not None:
            outputs.append(self.model.image_head(pyramid))
        return tuple(outputs)


class Draw(nn.Module):
    """What is pooled for each object to its mask and the mask's quality."""

    def __init__(self, model: CenterMask) -> None:
        super().__init__()
        self.mask = copy.deepcopy(model.mask).cpu().float().eval()
        self.mask_iou = copy.deepcopy(model.mask_iou).cpu().float().eval()

    def forward(self, pooled: Tensor, pooled_detail: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C', M / 2, M / 2) and (N, 16, M, M) to (N, M, M) and (N, C)."""
        logits = self.mask(pooled, pooled_detail)
        return logits, self.mask_iou(pooled, logits)


def add_positions(vit: VisionTransformer, grid: Tensor) -> Tensor:
    """Add position embeddings to patches and put the prefix tokens before them.

    What timm does, in operations that can be exported with the grid's size left open:
    bicubic interpolation with antialiasing is two products with narrow matrices.

    Parameters
    ----------
    grid : shape (B, h, w, D)
    """
    batch, height, width, channels = grid.shape
    positions = cast("Tensor", vit.pos_embed)
    n_prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    rows, columns = vit.patch_embed.grid_size
    maps = positions[:, n_prefix:].reshape(rows, columns, channels)
    along_y = torch.einsum("yi,ijc->yjc", cubic_weights(height, rows), maps)
    resampled = torch.einsum("xj,yjc->yxc", cubic_weights(width, columns), along_y)
    patches = grid + resampled
    tokens = patches.reshape(batch, height * width, channels)
    prefix = [token for token in (vit.cls_token, vit.reg_token) if token is not None]
    if not prefix:
        return tokens
    before = torch.cat([token.expand(batch, -1, -1) for token in prefix], dim=1)
    if n_prefix:
        before = before + positions[:, :n_prefix]
    return torch.cat([before, tokens], dim=1)


def cubic_weights(n_out: int, n_in: int) -> Tensor:
    """Return the matrix, shape (n_out, n_in), that resamples cells by antialiased bicubic weights.

    Keys, "Cubic convolution interpolation for digital image processing", 1981; when
    shrinking, the kernel is as much wider, and rows sum to 1 at the edges too.
    """
    cells_out = torch.arange(n_out, dtype=torch.float32) + 0.5
    cells_in = torch.arange(n_in, dtype=torch.float32) + 0.5
    step = n_in / (torch.zeros(()) + n_out)
    distance = (cells_in[None] - (cells_out * step)[:, None]).abs() / step.clamp(min=1.0)
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * CUBIC
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)


def require_same(network: Network, model: CenterMask, tolerance: float) -> float:
    """Make sure that an exported network computes what the model does, at several sizes.

    Exporting may silently fix what depends on the size of the tile it was traced with.

    Returns
    -------
    the largest difference, as a share of an output's norm

    Raises
    ------
    BackendError
        If it is above the tolerance.
    """
    try:
        worst = _largest_difference(network, model)
    # each library has its own errors for a graph that fits no other size
    except Exception as error:
        raise _no_export(model, str(error).strip().splitlines()[0][:200]) from error
    if worst > tolerance:
        raise _no_export(model, f"a difference of {worst:.2g} where {tolerance:g} is allowed")
    return worst


def _no_export(model: CenterMask, what: str) -> BackendError:
    return BackendError(
        expected="an export that computes what the model does at every size",
        got=f"{what}, with the backbone {model.config.backbone}",
        remedy="Keep the PyTorch checkpoint for it, or distil it into another backbone.",
    )


@torch.inference_mode()
def _largest_difference(network: Network, model: CenterMask) -> float:
    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in CHECKED_SIZES:
        tiles = torch.rand(batch, 3, height, width, generator=generator)
        maps, dense = network.look(tiles)
        true_maps, true = model.look(tiles)
        boxes = [torch.tensor([[4.0, 6.0, 40.0, 50.0]])] * batch
        pairs = [
            (maps.fine, true_maps.fine),
            (maps.detail, true_maps.detail),
            (dense.class_logits, true.class_logits),
            (dense.distances_px, true.distances_px),
            (dense.centerness_logits, true.centerness_logits),
            *zip(network.draw(true_maps, boxes), model.draw(true_maps, boxes), strict=True),
        ]
        worst = max(worst, *(float((a - b).norm() / b.norm().clamp(min=1e-6)) for a, b in pairs))
    return worst
