"""Mask branch: spatial attention guided masks and MaskIoU.

Lee and Park, "CenterMask: Real-time anchor-free instance segmentation",
arXiv 1911.06667 (SAG-Mask); Huang et al., "Mask scoring R-CNN",
arXiv 1903.00241 (MaskIoU).

All RoIs are pooled from the one fine level. CenterMask's adaptive rule
``ceil(k_max - log2(A_image / A_box))`` picks the finest level for every object
below a quarter of the image and changes with the tile size; one level for all
keeps the result independent of the tile.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from dinomask.nets.pyramid import DETAIL_STRIDE_PX, FINE_STRIDE_PX, STEM_WIDTH

ROI_MARGIN = 0.1
"""A RoI is this much larger than its box on each side, relative to the box, so
that a mask can mend a box that is a little too small."""

DETAIL_CHANNELS = 16
"""Channels of the contour features pooled at the mask's own resolution."""


def expand_boxes(boxes_yxyx_px: Tensor) -> Tensor:
    """Grow boxes of shape (N, 4) by `ROI_MARGIN` on each side."""
    margin = (boxes_yxyx_px[:, 2:] - boxes_yxyx_px[:, :2]) * ROI_MARGIN
    return torch.cat([boxes_yxyx_px[:, :2] - margin, boxes_yxyx_px[:, 2:] + margin], dim=1)


def pool_rois(features: Tensor, rois: list[Tensor], stride_px: float, size: int) -> Tensor:
    """RoIAlign on one map.

    Parameters
    ----------
    features : shape (B, C, H, W)
    rois : B tensors of shape (N_b, 4), y0 x0 y1 x1 in model pixels
    stride_px : model pixels a cell of the map; need not be an integer
    size : cells of the result a side

    Returns
    -------
    shape (sum of N_b, C, size, size)
    """
    if torch.is_grad_enabled() and features.device.type == "cpu":
        return pool_by_products(features, rois, stride_px, size)
    # always in float32: a coordinate of 300 px in bfloat16 would be off by up to a pixel
    xyxy = [r[:, [1, 0, 3, 2]].float() for r in rois]
    pooled: Tensor = roi_align(
        features.float(), xyxy, size, spatial_scale=1.0 / stride_px, sampling_ratio=2, aligned=True
    )
    return pooled


def pool_by_products(features: Tensor, rois: list[Tensor], stride_px: float, size: int) -> Tensor:
    """RoIAlign as two matrix products, the same values as `pool_rois` gives.

    Bilinear sampling of a box is separable: ``Wy · F · Wxᵀ``. On a CPU the
    gradient of the products takes a tenth of the time of torchvision's.
    """
    pooled = []
    for maps, boxes in zip(features, rois, strict=True):
        height, width = maps.shape[-2:]
        # coordinates and weights in float32; autocast alone may lower the products
        along_y = _sampling_weights(boxes[:, 0], boxes[:, 2], stride_px, size, height)
        along_x = _sampling_weights(boxes[:, 1], boxes[:, 3], stride_px, size, width)
        rows = along_y.flatten(0, 1) @ maps.float().permute(1, 2, 0).reshape(height, -1)
        rows = rows.view(len(boxes), size, width, len(maps))
        pooled.append((along_x[:, None] @ rows).permute(0, 3, 1, 2))
    return torch.cat(pooled).float()


def _sampling_weights(low: Tensor, high: Tensor, stride_px: float, size: int, n: int) -> Tensor:
    # mean of two linearly interpolated samples a cell, shape (N, size, n)
    steps = (torch.arange(2 * size, device=low.device) + 0.5) / (2 * size)
    low, high = low.float()[:, None], high.float()[:, None]
    at = (low + steps * (high - low)) / stride_px - 0.5
    near = ((at >= -1) & (at <= n))[:, :, None]
    grid = torch.arange(n, device=low.device)
    weights = (1 - (at.clamp(0, n - 1)[:, :, None] - grid).abs()).clamp(min=0) * near
    return weights.view(len(low), size, 2, n).mean(2)


class MaskHead(nn.Module):
    """SAG-Mask, with contour features added at the mask's resolution.

    Convolutions → x · σ(conv3×3([mean_c; max_c])) → deconvolution ×2 → joined
    with features pooled from the stem at stride 2 → one logit a cell.
    Masks are class-agnostic: an outline doesn't depend on the class.
    """

    def __init__(self, c_in: int, width: int, n_convs: int, mask_px: int) -> None:
        super().__init__()
        self.mask_px = mask_px
        layers: list[nn.Module] = []
        for i in range(n_convs):
            layers += [nn.Conv2d(c_in if i == 0 else width, width, 3, padding=1), nn.ReLU()]
        self.convs = nn.Sequential(*layers)
        self.attention = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        self.up = nn.ConvTranspose2d(width, width // 2, 2, stride=2)
        self.detail = nn.Conv2d(STEM_WIDTH, DETAIL_CHANNELS, 1)
        self.refine = nn.Conv2d(width // 2 + DETAIL_CHANNELS, width // 2, 3, padding=1)
        self.out = nn.Conv2d(width // 2, 1, 1)

    def forward(self, pooled: Tensor, detail: Tensor) -> Tensor:
        """Predict mask logits.

        Parameters
        ----------
        pooled : shape (N, C', M / 2, M / 2), from the fine level
        detail : shape (N, 16, M, M), from `pool_detail`

        Returns
        -------
        shape (N, M, M)
        """
        x = self.convs(pooled)
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        x = x * self.attention(summary).sigmoid()
        x = F.relu(self.up(x))
        x = F.relu(self.refine(torch.cat([x, detail], dim=1)))
        logits: Tensor = self.out(x)[:, 0]
        return logits

    def pool_detail(self, detail: Tensor, rois: list[Tensor]) -> Tensor:
        """Pool contour features of shape (B, 16, H / 2, W / 2) for RoIs: (N, 16, M, M)."""
        return pool_rois(detail, rois, DETAIL_STRIDE_PX, self.mask_px)

    def pool_fine(self, fine: Tensor, rois: list[Tensor]) -> Tensor:
        """Pool features of the fine level for RoIs, shape (N, C', M / 2, M / 2)."""
        return pool_rois(fine, rois, FINE_STRIDE_PX, self.mask_px // 2)


class MaskIoUHead(nn.Module):
    """Predicts the IoU of a predicted mask with the true one, a value a class."""

    def __init__(self, c_in: int, width: int, mask_px: int, n_hidden: int, n_classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(c_in + 1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        cells = (mask_px // 4 + (mask_px // 2) % 2) ** 2
        self.hidden = nn.Sequential(
            nn.Linear(width * cells, n_hidden),
            nn.ReLU(),
            nn.Linear(n_hidden, n_hidden),
            nn.ReLU(),
            nn.Linear(n_hidden, n_classes),
        )

    def forward(self, pooled: Tensor, mask_logits: Tensor) -> Tensor:
        """Predict from (N, C', M / 2, M / 2) features and (N, M, M) logits: (N, C)."""
        mask = F.max_pool2d(mask_logits.sigmoid()[:, None], 2)
        x = self.convs(torch.cat([pooled, mask.to(pooled.dtype)], dim=1))
        iou: Tensor = self.hidden(x.flatten(1))
        return iou


def mask_targets(labels_yx: Tensor, rois_yxyx_px: Tensor, labels: Tensor, mask_px: int) -> Tensor:
    """Sample the true masks on the grids of RoIs.

    Parameters
    ----------
    labels_yx : shape (H, W), the crop's label image
    rois_yxyx_px : shape (N, 4)
    labels : shape (N,), which label is the object of each RoI
    mask_px : cells M a side

    Returns
    -------
    shape (N, M, M), float32: the share of 2×2 samples a cell that hit the object
    """
    n, fine = len(rois_yxyx_px), 2 * mask_px
    steps = (torch.arange(fine, device=rois_yxyx_px.device) + 0.5) / fine
    low, size = rois_yxyx_px[:, :2], rois_yxyx_px[:, 2:] - rois_yxyx_px[:, :2]
    y = low[:, :1] + steps * size[:, :1]
    x = low[:, 1:] + steps * size[:, 1:]
    height, width = labels_yx.shape
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    rows = y.floor().long().clamp(0, height - 1)[:, :, None]
    cols = x.floor().long().clamp(0, width - 1)[:, None, :]
    hit = (labels_yx[rows, cols] == labels[:, None, None]) & inside
    return hit.view(n, mask_px, 2, mask_px, 2).float().mean(dim=(2, 4))


def iou_targets(
    mask_logits: Tensor, target: Tensor, rois_yxyx_px: Tensor, areas_px: Tensor
) -> Tensor:
    """IoU of predicted with true masks, counting what lies outside the RoI.

    Parameters
    ----------
    mask_logits, target : shape (N, M, M)
    rois_yxyx_px : shape (N, 4)
    areas_px : shape (N,), full areas of the true objects
    """
    predicted = (mask_logits > 0).float()
    size = rois_yxyx_px[:, 2:] - rois_yxyx_px[:, :2]
    cell = size.prod(1) / mask_logits.shape[-1] ** 2
    intersection = (predicted * target).sum((1, 2)) * cell
    union = predicted.sum((1, 2)) * cell + areas_px - intersection
    return (intersection / union.clamp(min=1e-6)).clamp(0, 1)


def mask_loss(mask_logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus ½ (1 − Dice) of each of N masks, shape (N,)."""
    entropy = F.binary_cross_entropy_with_logits(mask_logits, target, reduction="none")
    probability = mask_logits.sigmoid()
    overlap = 2 * (probability * target).sum((1, 2)) + 1
    dice = overlap / (probability.sum((1, 2)) + target.sum((1, 2)) + 1)
    loss: Tensor = entropy.mean((1, 2)) + 0.5 * (1 - dice)
    return loss
