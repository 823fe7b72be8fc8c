"""Further tasks on the same features: classes of pixels and of whole images.

Both heads exist only in models that are configured with them. Their losses, and
the detector's, take weights for classes that are rare.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinomask.errors import DataError, SettingsError
from dinomask.instances import REFUTED
from dinomask.nets.processes import mean_over_processes
from dinomask.nets.pyramid import ConvBlock, Pyramid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.config import BalanceConfig, ModelConfig
    from dinomask.nets.detection import InstanceTargets

IGNORED = -1
"""Target of pixels and images whose class nobody told."""


class SemanticHead(nn.Module):
    """The class of every pixel, from the level at stride 3.5.

    A 3×3 block and a 1×1 convolution give logits at stride 3.5, enlarged
    bilinearly to the tile (the head of "Panoptic feature pyramid networks",
    Kirillov et al., arXiv 1901.02446, on a level that has the others summed in).
    """

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.block = ConvBlock(width, width)
        self.out = nn.Conv2d(width, n_classes, 1)

    def forward(self, pyramid: Pyramid, size_px: tuple[int, int]) -> Tensor:
        """Predict logits of shape (B, S, H, W) for tiles of `size_px` = (H, W)."""
        coarse = self.out(self.block(pyramid.fine)).float()
        return F.interpolate(coarse, size_px, mode="bilinear", align_corners=False)


class ImageClassHead(nn.Module):
    """The class of a whole tile, from the detection levels averaged over all places.

    The average of each level at strides 7, 14 and 28 is normalised by itself,
    then come one hidden layer and the logits.
    """

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.hidden = nn.Sequential(nn.Linear(3 * width, width), nn.GELU())
        self.out = nn.Linear(width, n_classes)

    def forward(self, pyramid: Pyramid) -> Tensor:
        """Predict logits of shape (B, K)."""
        pairs = zip(self.norms, pyramid.levels, strict=True)
        pooled = torch.cat([norm(level.mean(dim=(2, 3))) for norm, level in pairs], dim=1)
        logits: Tensor = self.out(self.hidden(pooled))
        return logits.float()


@dataclasses.dataclass(frozen=True)
class ClassWeights:
    """How much each class counts in the classification losses; None: all alike.

    Attributes
    ----------
    objects : shape (C,); factor on the detector's loss where such an object is
    pixels : shape (S,); background first
    images : shape (K,)
    """

    objects: Tensor | None = None
    pixels: Tensor | None = None
    images: Tensor | None = None

    @staticmethod
    def of(
        config: BalanceConfig,
        model: ModelConfig,
        object_counts: Sequence[int] | None = None,
        image_counts: Sequence[int] | None = None,
    ) -> ClassWeights:
        """Return the weights that settings ask for.

        Parameters
        ----------
        config : explicit weights, or a power of the classes' frequencies
        model : how many classes there are
        object_counts : C numbers of objects in the training data
        image_counts : K numbers of images in the training data

        Raises
        ------
        SettingsError
            If there is another number of weights than of classes.
        """
        objects = _weights(config.class_weights, model.n_classes, object_counts, config)
        images = _weights(config.image_class_weights, model.image_classes, image_counts, config)
        pixels = None
        if objects is not None and model.semantic_classes > 2:
            pixels = torch.cat([objects.new_ones(1), objects])
        return ClassWeights(objects, pixels, images)

    def to(self, device: torch.device | str) -> ClassWeights:
        """Move the weights to a device."""
        values = (self.objects, self.pixels, self.images)
        return ClassWeights(*(None if v is None else v.to(device) for v in values))


def _weights(
    given: tuple[float, ...], n_classes: int, counts: Sequence[int] | None, config: BalanceConfig
) -> Tensor | None:
    if given:
        if len(given) != n_classes:
            raise SettingsError(
                expected=f"a weight for each of {n_classes} classes",
                got=f"{len(given)} weights",
                remedy="Give as many weights as the model has classes, or none.",
            )
        return torch.tensor(given)
    if config.class_power == 0 or counts is None or n_classes == 0:
        return None
    return balanced_weights(counts, config.class_power)


def balanced_weights(counts: Sequence[int], power: float) -> Tensor:
    """Weigh classes by their frequency to the power of -`power`.

    Scaled so that the weights of all counted objects average 1 and the loss
    keeps its size. With power 1 every class has the same sum of weights.

    Parameters
    ----------
    counts : C numbers; a class that was never seen weighs as one seen once
    power : 0 alike, 1 inverse frequency
    """
    n = torch.tensor(counts, dtype=torch.float64)
    raw = n.clamp(min=1) ** -power
    scale = n.sum() / (n * raw).sum() if n.sum() > 0 else 1.0
    return (raw * scale).float()


def semantic_target(target: InstanceTargets, n_classes: int) -> Tensor:
    """Derive the class of every pixel from a crop's objects.

    Parameters
    ----------
    target : with labels of shape (H, W)
    n_classes : S of the head; 2 only tells objects from background

    Returns
    -------
    shape (H, W), int64: 0 background, 1 + class of the object, -1 unsupervised
    """
    # refuted objects are background like any other here
    labels = torch.where(target.labels_yx == REFUTED, 0, target.labels_yx)
    if n_classes == 2 or len(target.classes) == 0:
        return labels.clamp(IGNORED, 1)
    classes = target.classes[(labels - 1).clamp(min=0)] + 1
    return torch.where(labels > 0, classes, labels)


def semantic_loss(
    logits: Tensor, targets: list[InstanceTargets], weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy over the supervised pixels of a batch; 0 where there is none.

    Parameters
    ----------
    logits : shape (B, S, H, W)
    targets : B crops' truth
    weights : shape (S,); the loss is the mean weighted by the true classes
    """
    goal = torch.stack([semantic_target(target, logits.shape[1]) for target in targets])
    return masked_cross_entropy(logits, goal, weights)


def image_class_loss(
    logits: Tensor, targets: list[InstanceTargets], weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy over the crops whose image class is known; 0 where there is none.

    Parameters
    ----------
    logits : shape (B, K)
    targets : B crops' truth
    weights : shape (K,); the loss is the mean weighted by the true classes
    """
    unknown = torch.full((), IGNORED, dtype=torch.int64, device=logits.device)
    goal = torch.stack([unknown if t.image_class is None else t.image_class for t in targets])
    return masked_cross_entropy(logits, goal, weights)


def masked_cross_entropy(logits: Tensor, goal: Tensor, weights: Tensor | None = None) -> Tensor:
    """Average the cross-entropy over targets other than -1; 0 if there is none.

    Parameters
    ----------
    logits : shape (B, C, …)
    goal : shape (B, …), int64, -1 to leave out
    weights : shape (C,)
    """
    summed = F.cross_entropy(logits, goal, weights, ignore_index=IGNORED, reduction="sum")
    known = goal[goal != IGNORED]
    total = weights[known].sum() if weights is not None else summed.new_tensor(len(known))
    return summed / mean_over_processes(total).clamp(min=1e-6)


def check_classes(targets: list[InstanceTargets], n_classes: int, image_classes: int) -> None:
    """Refuse classes that a model doesn't have.

    Raises
    ------
    DataError
        If an object's class is not in [0, `n_classes`), or an image's not in
        [-1, `image_classes`) where the model has a head for them.
    """
    for target in targets:
        _check_range(target.classes, 0, n_classes, "object")
        if image_classes and target.image_class is not None:
            _check_range(target.image_class[None], IGNORED, image_classes, "image")


def _check_range(classes: Tensor, lowest: int, n_classes: int, what: str) -> None:
    wrong = classes[(classes < lowest) | (classes >= n_classes)]
    if len(wrong):
        raise DataError(
            expected=f"{what} classes from {lowest} to {n_classes - 1}",
            got=f"{int(wrong[0])}",
            remedy="Correct the class in the data, or train a model with more classes.",
        )
