"""The method `distil`: recover what other methods lost, or teach a smaller model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, cast

import torch

from dinomask.compress.channels import WIDTHS, narrow_heads, why_not_narrower
from dinomask.compress.distil import train_to_answer_alike
from dinomask.errors import ModelError
from dinomask.nets.backbone import create_backbone
from dinomask.nets.centermask import CenterMask

if TYPE_CHECKING:
    from timm.layers import LayerNorm2d
    from torch import Tensor, nn

    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import DistilSettings, ModelConfig

FRESH_RATE = 3.0
"""How much faster a backbone learns that starts from random weights."""

WIDTH_STEP = 8
"""Widths of a student's heads are multiples of this."""


class Distil:
    """Train the compressed model, or a new student, towards the uncompressed one's answers."""

    def reason_against(self, subject: Subject, settings: DistilSettings) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        if settings.student is None:
            return None
        try:
            create_backbone(settings.student)
        except ModelError as error:
            return f"there is no student {settings.student}: {error.remedy}"
        return None

    def apply(self, subject: Subject, settings: DistilSettings, work: Work) -> Subject:
        """Return the subject with the trained model."""
        model, fresh_rate = subject.model, None
        if settings.student is not None:
            # what `coarse` has lowered stays so
            model = new_student(settings, work, subject.model.config.target_diameter_px)
            if settings.student_weights is None:
                fresh_rate = FRESH_RATE * settings.learning_rate
            work.note(f"student {settings.student} of {subject_size(model)} M parameters")
        taught = train_to_answer_alike(model, settings, work, fresh_rate)
        return dataclasses.replace(subject, model=taught)


def student_config(teacher: ModelConfig, settings: DistilSettings) -> ModelConfig:
    """Return the architecture of a student: its backbone, and heads of a share of the width."""

    def width(channels: int) -> int:
        return max(WIDTH_STEP, round(channels * settings.student_width / WIDTH_STEP) * WIDTH_STEP)

    return dataclasses.replace(
        teacher,
        backbone=settings.student or teacher.backbone,
        patch_px=None,
        feature_blocks=None,
        window_tokens=None,
        global_blocks=None,
        merge_tokens=0,
        shape=None,
        pyramid_width=width(teacher.pyramid_width),
        detail_width=width(teacher.detail_width),
        mask_width=width(teacher.mask_width),
        iou_width=width(teacher.iou_width),
    )


def new_student(settings: DistilSettings, work: Work, target_px: float | None = None) -> CenterMask:
    """Return a student that finds what its teacher finds without a backbone.

    Pyramid and heads start as the teacher's, their least important channels removed. The
    backbone starts anew; until it has learned something it tells the pyramid what the
    teacher's says on average, everywhere the same.

    Parameters
    ----------
    settings : which backbone, and how wide its heads are
    work : of the compression
    target_px : diameter at which it is shown objects; None takes the teacher's
    """
    teacher = work.original.model
    config = student_config(teacher.config, settings)
    if target_px is not None:
        config = dataclasses.replace(config, target_diameter_px=target_px)
    torch.manual_seed(work.config.seed)
    student = CenterMask(config, create_backbone(config.backbone, settings.student_weights))
    first = teacher
    if _is_narrower(config, teacher.config):
        widths = {name: getattr(config, name) for name in WIDTHS}
        first = narrow_heads(teacher, widths, work.tiles(), work.tell)
    own = student.state_dict()
    shared = {
        name: value
        for name, value in first.state_dict().items()
        if name in own
        and own[name].shape == value.shape
        # a backbone of other arrangement may have layers of the same names
        and (config.backbone == teacher.config.backbone or not name.startswith("backbone."))
    }
    student.load_state_dict(shared, strict=False)
    if config.backbone != teacher.config.backbone:
        _see_alike(student, teacher)
        _begin_silent(student, average_said(first, work.tiles()))
    return student


def _is_narrower(config: ModelConfig, other: ModelConfig) -> bool:
    """Tell whether pyramid and heads can be made of another model's by removing channels."""
    pairs = [(getattr(config, name), getattr(other, name)) for name in WIDTHS]
    is_less = all(own <= theirs for own, theirs in pairs) and any(a < b for a, b in pairs)
    return is_less and why_not_narrower(other) is None


@torch.inference_mode()
def average_said(model: CenterMask, tiles: Tensor) -> Tensor:
    """Return the mean of what a model's backbone adds to the pyramid at stride 14, shape (C,)."""
    seen: list[Tensor] = []
    hook = model.pyramid.lateral.register_forward_hook(
        lambda _module, _given, said: seen.append(said.float().mean((0, 2, 3)).cpu())
    )
    try:
        for tile in tiles:
            model.features(tile[None].to(model.mean.device))
    finally:
        hook.remove()
    return torch.stack(seen).mean(0)


@torch.no_grad()
def _see_alike(student: CenterMask, teacher: CenterMask) -> None:
    """Let the stem see pixels that are normalised otherwise as its teacher's does.

    x' = (x σ + μ - μ') / σ', which goes into the weights of its first convolution.
    """
    first = cast("nn.Conv2d", student.pyramid.stem.to_2[0])
    ratio = (student.std / teacher.std).to(first.weight)
    shift = ((student.mean - teacher.mean) / teacher.std).to(first.weight)
    cast("Tensor", first.bias).add_((first.weight * shift).sum((1, 2, 3)))
    first.weight.mul_(ratio)


@torch.no_grad()
def _begin_silent(student: CenterMask, said: Tensor) -> None:
    """Let a new backbone add the same everywhere; how much it varies is then learned."""
    pyramid = student.pyramid
    for lateral in (pyramid.lateral, pyramid.lateral_7, pyramid.lateral_fine):
        if lateral is not None:
            norm = cast("LayerNorm2d", lateral[1])
            norm.weight.zero_()
            norm.bias.zero_()
    if len(said) == student.config.pyramid_width:
        cast("LayerNorm2d", pyramid.lateral[1]).bias.copy_(said)


def subject_size(model: CenterMask) -> float:
    """Return the number of parameters in millions, with one digit."""
    return round(sum(p.numel() for p in model.parameters()) / 1e6, 1)


DISTIL = Distil()
