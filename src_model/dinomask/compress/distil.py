"""Train a compressed model, or a smaller one, to answer as the uncompressed model does.

Labels aren't needed: crops of the user's images are shown to both. The training is
`dinomask.train`'s, with its crops, average of weights, budget and resumable state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING

import torch

from dinomask.compress.distil_losses import (
    Answer,
    Projections,
    box_loss,
    feature_loss,
    mask_loss,
)
from dinomask.config import DistilSettings, FitConfig, TrainConfig, as_dict
from dinomask.errors import ModelError
from dinomask.nets.losses import Sampling, losses_of
from dinomask.train.balance import balancer_of
from dinomask.train.fit import prepare_fit
from dinomask.train.loop import run_steps
from dinomask.train.processes import Processes
from dinomask.train.speed import autocast, prepare_speed
from dinomask.train.state import TrainingState
from dinomask.train.step import Stepper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from dinomask.compress.work import Work
    from dinomask.nets.centermask import CenterMask
    from dinomask.nets.detection import InstanceTargets

STATES = "training-*.safetensors"
"""States of trainings, named after all that decides them; with them a compression that was
stopped goes on, and one that is finished is not done again."""

PROJECTIONS = "to_teacher"
"""Where a student keeps its `Projections` while it learns."""


@dataclasses.dataclass
class DistilStepper(Stepper):
    """Steps of a training towards a teacher's answers.

    Attributes
    ----------
    teacher : in evaluation mode, on the same device
    settings : how much each difference counts
    use_labels : whether the ordinary losses are added, where crops have labels
    """

    teacher: CenterMask
    settings: DistilSettings
    use_labels: bool

    def losses(
        self,
        batch: tuple[Tensor, list[InstanceTargets]],
        fraction: float,
        maps: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Compute the differences to the teacher, and their total; see `Stepper.losses`."""
        settings, student = self.settings, self.state.model
        torch.manual_seed((self.config.seed << 32) + self.state.step)
        tiles, targets = batch
        tiles = tiles.to(self.device, memory_format=torch.channels_last)
        projections: Projections = getattr(student, PROJECTIONS)
        with autocast(self.config, self.device):
            with torch.no_grad():
                other = Answer.of(self.teacher, tiles)
            own = Answer.of(student, tiles)
            losses = {
                "features": feature_loss(own, other, projections) * settings.features,
                "boxes": box_loss(own.dense, other.dense) * settings.boxes,
                "masks": settings.masks
                * mask_loss(student, own, self.teacher, other, settings.rois_per_image),
            }
            if self.use_labels:
                losses["labels"] = settings.labels * self._label_loss(own, targets, tiles)
        total = torch.stack([value.float() for value in losses.values()]).sum()
        return self.checked(losses | {"total": total})

    def _label_loss(self, own: Answer, targets: list[InstanceTargets], tiles: Tensor) -> Tensor:
        config = self.config
        losses = losses_of(
            self.state.model,
            own.pyramid,
            own.dense,
            [target.to(self.device) for target in targets],
            (tiles.shape[-2], tiles.shape[-1]),
            Sampling(
                config.rois_per_image, config.proposals_per_image, self.class_weights, self.chance()
            ),
        )
        return self.state.balancer.total(losses)


def train_to_answer_alike(
    student: CenterMask,
    settings: DistilSettings,
    work: Work,
    backbone_rate: float | None = None,
) -> CenterMask:
    """Train a student on the user's images towards the uncompressed model's answers.

    A training that was stopped goes on where it stopped, if it is called again with the
    same student, settings and images.

    Parameters
    ----------
    student : changed in place, on any device
    settings : budget and weights of the losses
    backbone_rate : peak learning rate of the backbone; None takes that of the rest

    Returns
    -------
    the student with the average of its weights, in evaluation mode on the CPU

    Raises
    ------
    DivergedError
        If the loss is no longer a number.
    DataError
        If no image can be used.
    """
    material, predictor = work.require_material(), work.predictor()
    config = training_config(settings, work, backbone_rate)
    teacher = predictor.model
    material.read(predictor, work.on_progress)
    path = work.folder / STATES.replace("*", _key(student, settings, work))
    setattr(student, PROJECTIONS, Projections(student, teacher))
    prepare_speed(student.train(), config, work.device)
    fitting = prepare_fit(student, config.fit)
    balancer = balancer_of(config.balance, student.loss_names, student)
    groups = fitting.parameter_groups(config.learning_rate, config.weight_decay)
    state = TrainingState(student, {}, torch.optim.AdamW(groups), balancer)
    if not _resumed(state, path):
        state.average = {k: v.clone() for k, v in student.state_dict().items()}
    state.to(work.device)
    stepper = DistilStepper(
        state,
        fitting,
        material.stream(predictor, config, student.config),
        config,
        work.device,
        Processes(),
        teacher,
        settings,
        material.labelled and settings.labels > 0,
    )
    _run(stepper, work, path)
    student.load_state_dict(state.average)
    delattr(student, PROJECTIONS)
    return student.eval().cpu().requires_grad_(True)


def training_config(
    settings: DistilSettings, work: Work, backbone_rate: float | None = None
) -> TrainConfig:
    """Return the settings of the training within."""
    return TrainConfig(
        steps=settings.steps,
        minutes=settings.minutes,
        batch=settings.batch,
        crop_px=settings.crop_px,
        learning_rate=settings.learning_rate,
        warmup=0.05,
        ema_decay=0.99,
        weight_decay=0.01,
        rois_per_image=settings.rois_per_image,
        generated_share=settings.generated_share,
        save_every_s=60.0,
        seed=work.config.seed,
        threads=work.config.threads,
        fit=FitConfig(backbone_rate=backbone_rate),
    )


def _run(stepper: DistilStepper, work: Work, path: Path) -> None:
    def save() -> None:
        stepper.state.write(path)

    curve: list[float] = []
    try:
        for progress in run_steps(stepper, save):
            curve.append(progress.losses["total"])
            work.tell(round(progress.fraction * 1000), 1000)
    except BaseException:
        # an error of the disk must not hide why the training ended
        with contextlib.suppress(Exception):
            save()
        raise
    save()
    early, late = (_mean(part) for part in (curve[:10], curve[-10:]))
    work.note(
        f"{stepper.state.step} steps of {stepper.config.batch} crops, "
        f"{stepper.state.elapsed_s / 60:.1f} min; loss {early:.3f} → {late:.3f}"
    )


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def _resumed(state: TrainingState, path: Path) -> bool:
    """Take up the training of a file, if there is one that can be read."""
    try:
        state.read(path)
    except ModelError:
        return False
    return True


def _key(student: CenterMask, settings: DistilSettings, work: Work) -> str:
    """Return a hash of all that decides a distillation."""
    names = [source.name for source in work.require_material().sources]
    facts = [as_dict(settings), as_dict(student.config), work.config.seed, names]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for value in student.state_dict().values():
        digest.update(value.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()[:16]
