"""The training loop: resumable, with averaged weights and a time or step budget."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from typing import TYPE_CHECKING, Any

import torch

from dinomask.config import ModelConfig, TrainConfig, as_dict
from dinomask.errors import ModelError, OutputError
from dinomask.nets.backbone import backbone_of
from dinomask.nets.centermask import CenterMask
from dinomask.nets.detection import InstanceTargets
from dinomask.nets.zoo import (
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    load_model,
    read_manifest,
    save_checkpoint,
)
from dinomask.run.predictor import choose_device
from dinomask.train.crops import CropDataset, batches
from dinomask.train.state import STATE_FILE, TrainingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from dinomask.train.datasets import Sample

LOG_FILE = "training_log.jsonl"
LOSS_WEIGHTS = {"class": 1.0, "box": 1.0, "centerness": 1.0, "mask": 1.0, "mask_iou": 1.0}


class DivergedError(ModelError):
    """The loss or its gradient is no longer a number."""


@dataclasses.dataclass(frozen=True)
class TrainProgress:
    """Where a training stands."""

    step: int
    fraction: float
    elapsed_s: float
    crops: int
    learning_rate: float
    losses: dict[str, float]

    @property
    def eta_s(self) -> float:
        """Seconds left, from the speed so far."""
        return self.elapsed_s * (1 - self.fraction) / max(self.fraction, 1e-9)


def train(
    samples: Sequence[Sample],
    out: Path,
    config: TrainConfig,
    *,
    architecture: ModelConfig | None = None,
    init: str | None = None,
    backbone_weights: str | None = None,
    resume: bool = False,
    score_threshold: float | None = None,
    manifest: Manifest | None = None,
    on_step: Callable[[TrainProgress], None] | None = None,
) -> Manifest:
    """Train a model and write a checkpoint.

    Parameters
    ----------
    samples : annotated images to draw crops from
    out : checkpoint folder; the training's state and log are kept in it
    config : settings
    architecture : the model to build; None takes the default, or that of `init`
    init : model whose weights to start from
    backbone_weights : see `dinomask.nets.backbone.create_backbone`
    resume : go on from the state in `out`
    score_threshold : stored as the lowest score the model should report
    manifest : provenance to store; name, architecture and training are filled in
    on_step : called after each step; an exception from it ends the training
        after the state was saved

    Raises
    ------
    DivergedError
        If the loss becomes NaN; `out` then holds the last saved weights that
        still gave a finite loss.
    ModelError
        If `init` is unknown, or there is nothing to resume.
    OutputError
        If `out` holds a checkpoint already and `resume` is off, or can't be written.
    """
    config.require_budget()
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device = choose_device(config.device)
    state = _prepare(out, config, architecture, init, backbone_weights, resume)
    state.to(device)
    known: dict[str, Any] = {"architecture": state.model.config}
    if score_threshold is not None:
        known["score_threshold"] = score_threshold
    base = dataclasses.replace(manifest or Manifest(out.name, state.model.config), **known)
    data = CropDataset(samples, config, state.model.config.target_diameter_px)

    def save() -> Manifest:
        return _save(out, state, config, base)

    try:
        for progress in _steps(state, data, config, device, save):
            if progress.step % 20 == 0:
                _log(out, progress)
            if on_step:
                on_step(progress)
    except BaseException as error:
        # where it diverged the weights in memory may be the cause; those on disk are good
        if not isinstance(error, DivergedError):
            save()
        raise
    return save()


def _prepare(
    out: Path,
    config: TrainConfig,
    architecture: ModelConfig | None,
    init: str | None,
    backbone_weights: str | None,
    resume: bool,
) -> TrainingState:
    present = [n for n in (STATE_FILE, WEIGHTS_FILE, MANIFEST_FILE) if (out / n).exists()]
    if present and not resume:
        raise OutputError(
            expected="a folder without a checkpoint or training",
            got=f"{out / present[0]}",
            remedy="Add --resume to go on with a training, or choose another --out.",
        )
    if resume and init is None and architecture is None and (out / MANIFEST_FILE).exists():
        architecture = read_manifest(out).architecture
    if init is not None:
        model, _ = load_model(init)
        if architecture not in (None, model.config):
            raise ModelError(
                expected=f"the architecture of {init!r}",
                got="other settings of the model",
                remedy="Leave out --init or the settings.",
            )
    else:
        architecture = architecture or ModelConfig()
        backbone = backbone_of(architecture, None if resume else backbone_weights)
        model = CenterMask(architecture, backbone)
    model.train()
    state = TrainingState(model, {}, _optimiser(model, config))
    if resume:
        state.read(out / STATE_FILE)
    else:
        state.average = {k: v.clone() for k, v in model.state_dict().items()}
    return state


def _optimiser(model: CenterMask, config: TrainConfig) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)


def _fraction(state: TrainingState, config: TrainConfig) -> float:
    parts = []
    if config.steps:
        parts.append(state.step / config.steps)
    if config.minutes:
        parts.append(state.elapsed_s / (config.minutes * 60))
    return min(1.0, max(parts))


def learning_rate(config: TrainConfig, fraction: float) -> float:
    """Linear warm-up, then a cosine down to a hundredth of the peak."""
    if fraction < config.warmup:
        return config.learning_rate * min(1.0, (fraction + 1e-4) / config.warmup)
    phase = (fraction - config.warmup) / (1 - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase)))


def _steps(
    state: TrainingState,
    data: CropDataset,
    config: TrainConfig,
    device: torch.device,
    save: Callable[[], object],
) -> Iterator[TrainProgress]:
    started = time.monotonic() - state.elapsed_s
    stream = batches(data, state.step, config)
    last_save_s = -math.inf
    while (fraction := _fraction(state, config)) < 1:
        rate = learning_rate(config, fraction)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        losses = _losses(state, next(stream), data, config, device, fraction)
        # only here are the weights known to give a finite loss; and with a save before
        # the first step, a folder that can't be written is noticed at once
        if time.monotonic() - last_save_s > config.save_every_s:
            save()
            last_save_s = time.monotonic()
        _update(state, losses, data, config)
        state.step += 1
        state.elapsed_s = time.monotonic() - started
        yield TrainProgress(
            state.step,
            _fraction(state, config),
            state.elapsed_s,
            state.step * config.batch,
            rate,
            {k: float(v.detach()) for k, v in losses.items()},
        )


def _losses(
    state: TrainingState,
    batch: tuple[Tensor, list[InstanceTargets]],
    data: CropDataset,
    config: TrainConfig,
    device: torch.device,
    fraction: float,
) -> dict[str, Tensor]:
    # chance depends on the step alone, so that a resumed training goes on unchanged
    torch.manual_seed((config.seed << 32) + state.step)
    tiles, targets = batch
    tiles = tiles.to(device, memory_format=torch.channels_last)
    targets = [
        InstanceTargets(*(getattr(t, f.name).to(device) for f in dataclasses.fields(t)))
        for t in targets
    ]
    n_proposals = config.proposals_per_image if fraction >= config.proposals_from else 0
    # bf16 is slower than fp32 on CPUs without matrix units, so only CUDA uses it
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        losses = state.model.losses(tiles, targets, config.rois_per_image, n_proposals)
    losses["total"] = torch.stack([LOSS_WEIGHTS[k] * v for k, v in losses.items()]).sum()
    if not torch.isfinite(losses["total"]):
        parts = ", ".join(f"{k} {float(v.detach()):.3g}" for k, v in losses.items())
        raise _diverged(state, data, config, expected="a finite loss", got=parts)
    return losses


def _update(
    state: TrainingState, losses: dict[str, Tensor], data: CropDataset, config: TrainConfig
) -> None:
    state.optimiser.zero_grad(set_to_none=True)
    losses["total"].backward()
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
    if not torch.isfinite(norm):
        raise _diverged(state, data, config, expected="a finite gradient", got=f"norm {norm}")
    state.optimiser.step()
    state.update_average(config.ema_decay)


def _diverged(
    state: TrainingState, data: CropDataset, config: TrainConfig, *, expected: str, got: str
) -> DivergedError:
    crops = range(state.step * config.batch, (state.step + 1) * config.batch)
    names = sorted({data.source(i) for i in crops})
    return DivergedError(
        expected=expected,
        got=f"{got} in step {state.step} on crops of {', '.join(names)}",
        remedy="Check these images or lower the learning rate, then --resume from the last save.",
    )


def _log(out: Path, progress: TrainProgress) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(progress)) + "\n")
    except OSError as error:
        raise OutputError(
            expected=f"to write {out / LOG_FILE}",
            got=error.strerror or str(error),
            remedy="Free some space or choose a folder you may write to, then --resume.",
        ) from error


def _save(out: Path, state: TrainingState, config: TrainConfig, manifest: Manifest) -> Manifest:
    state.write(out / STATE_FILE)
    counts = {"steps": state.step, "crops": state.step * config.batch}
    minutes = round(state.elapsed_s / 60, 1)
    training = {"settings": as_dict(config), **counts, "minutes": minutes}
    return save_checkpoint(out, state.average, dataclasses.replace(manifest, training=training))
