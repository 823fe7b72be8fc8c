"""The method `distil`: recover what other methods lost, or teach a smaller model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from dinomask.compress.distil import train_to_answer_alike
from dinomask.errors import ModelError
from dinomask.nets.backbone import create_backbone
from dinomask.nets.centermask import CenterMask

if TYPE_CHECKING:
    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.config import DistilSettings, ModelConfig

FRESH_RATE = 3.0
"""How much faster a student learns that starts from random weights."""

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
        model = subject.model
        if settings.student is not None:
            config = student_config(work.original.model.config, settings)
            model = new_student(config, work.original.model, settings, work.config.seed)
            settings = dataclasses.replace(
                settings, learning_rate=FRESH_RATE * settings.learning_rate
            )
            work.note(f"student {settings.student} of {subject_size(model)} M parameters")
        return dataclasses.replace(subject, model=train_to_answer_alike(model, settings, work))


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


def new_student(
    config: ModelConfig, teacher: CenterMask, settings: DistilSettings, seed: int
) -> CenterMask:
    """Return a student; its layers that are shaped and called like the teacher's start as those."""
    torch.manual_seed(seed)
    backbone = create_backbone(config.backbone, settings.student_weights)
    student = CenterMask(config, backbone)
    own = student.state_dict()
    known = teacher.state_dict()
    shared = {
        name: value
        for name, value in known.items()
        if name in own
        and own[name].shape == value.shape
        # a backbone of other arrangement may have layers of the same names
        and (config.backbone == teacher.config.backbone or not name.startswith("backbone."))
    }
    student.load_state_dict(shared, strict=False)
    return student


def subject_size(model: CenterMask) -> float:
    """Return the number of parameters in millions, with one digit."""
    return round(sum(p.numel() for p in model.parameters()) / 1e6, 1)


DISTIL = Distil()
