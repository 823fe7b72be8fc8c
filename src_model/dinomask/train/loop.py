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
from dinomask.nets.catalogue import find_model
from dinomask.nets.centermask import CenterMask
from dinomask.nets.growing import grow_stem
from dinomask.nets.processes import mean_over_processes
from dinomask.nets.zoo import (
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    load_model,
    read_manifest,
    save_checkpoint,
)
from dinomask.run.predictor import choose_device
from dinomask.train.balance import balancer_of
from dinomask.train.crops import CropDataset, batches
from dinomask.train.fit import prepare_fit
from dinomask.train.processes import joined_processes
from dinomask.train.schedule import fraction_done, rate_factor
from dinomask.train.speed import prepare_speed
from dinomask.train.state import STATE_FILE, TrainingState
from dinomask.train.step import DivergedError, Stepper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from dinomask.train.datasets import Sample
    from dinomask.train.fit import Fitting

__all__ = ["LOG_FILE", "DivergedError", "TrainProgress", "run_steps", "train"]

LOG_FILE = "training_log.jsonl"
LOG_EVERY = 20
COUNTS = ("steps", "crops", "minutes")


@dataclasses.dataclass(frozen=True)
class TrainProgress:
    """Where a training stands.

    Attributes
    ----------
    learning_rate : of the heads
    losses : of the step, before it; means over the processes that train together
    """

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

    Started by ``torchrun`` in several processes, all of them call this; each
    draws its own crops, and the first alone writes.

    Parameters
    ----------
    samples : annotated images to draw crops from
    out : checkpoint folder; the training's state and log are kept in it
    config : settings
    architecture : the model to build; None takes the default, or that of `init`, whose stem
        alone may get more blocks
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
    with joined_processes(device) as processes:
        _require_free(out, resume)
        # before the first process writes what would stop the others
        processes.wait()
        model = _model(out, architecture, init, backbone_weights, resume)
        prepare_speed(model, config, device)
        fitting = prepare_fit(model, config.fit)
        state = _state(fitting, out, config, device, resume)
        known: dict[str, Any] = {"architecture": model.config}
        if score_threshold is not None:
            known["score_threshold"] = score_threshold
        known["training"] = _origin(out, init, resume)
        base = dataclasses.replace(manifest or Manifest(out.name, model.config), **known)
        data = CropDataset(
            samples,
            config,
            model.config.target_diameter_px,
            model.config.class_names,
            model.config.image_class_names,
        )

        def save() -> Manifest:
            return _save(out, state, fitting, config, base, processes.count)

        stepper = Stepper(state, fitting, data, config, device, processes)
        try:
            for progress in run_steps(stepper, save):
                if progress.step % LOG_EVERY == 0 and processes.is_first:
                    _log(out, progress)
                if on_step and processes.is_first:
                    on_step(progress)
        except BaseException as error:
            # where it diverged the weights in memory may be the cause; those on disk are good
            if processes.is_first and not isinstance(error, DivergedError):
                save()
            raise
        return save() if processes.is_first else base


def _require_free(out: Path, resume: bool) -> None:
    present = [n for n in (STATE_FILE, WEIGHTS_FILE, MANIFEST_FILE) if (out / n).exists()]
    if present and not resume:
        raise OutputError(
            expected="a folder without a checkpoint or training",
            got=f"{out / present[0]}",
            remedy="Add --resume to go on with a training, or choose another --out.",
        )


def _model(
    out: Path,
    architecture: ModelConfig | None,
    init: str | None,
    backbone_weights: str | None,
    resume: bool,
) -> CenterMask:
    if resume and init is None and architecture is None and (out / MANIFEST_FILE).exists():
        architecture = read_manifest(out).architecture
    if init is not None:
        model, _ = load_model(init)
        if architecture is not None:
            kept = dataclasses.replace(architecture, stem_blocks=model.config.stem_blocks)
            if kept != model.config:
                raise ModelError(
                    expected=f"the architecture of {init!r}, but for the stem's blocks",
                    got="other settings of the model",
                    remedy="Leave out --init or the settings.",
                )
            model = grow_stem(model, architecture.stem_blocks)
    else:
        architecture = architecture or ModelConfig()
        backbone = backbone_of(architecture, None if resume else backbone_weights)
        model = CenterMask(architecture, backbone)
    return model.train()


def _origin(out: Path, init: str | None, resume: bool) -> dict[str, Any]:
    """Return what the weights were before this training; empty if random."""
    if init is not None:
        first = read_manifest(find_model(init))
        told = {k: first.training[k] for k in ("from", *COUNTS) if k in first.training}
        return {"from": {"name": first.name, "weights_sha256": first.weights_sha256, **told}}
    if resume and (out / MANIFEST_FILE).exists():
        training = read_manifest(out).training
        return {k: training[k] for k in ("from",) if k in training}
    return {}


def _state(
    fitting: Fitting, out: Path, config: TrainConfig, device: torch.device, resume: bool
) -> TrainingState:
    model = fitting.model
    balancer = balancer_of(config.balance, model.loss_names, model)
    groups = fitting.parameter_groups(config.learning_rate, config.weight_decay)
    found = list(balancer.parameters())
    if found:
        rate = config.learning_rate
        groups.append({"params": found, "weight_decay": 0.0, "lr": rate, "base_lr": rate})
    state = TrainingState(model, {}, torch.optim.AdamW(groups), balancer)
    if resume:
        state.read(out / STATE_FILE)
    else:
        state.average = {k: v.clone() for k, v in model.state_dict().items()}
    state.to(device)
    return state


def run_steps(stepper: Stepper, save: Callable[[], object]) -> Iterator[TrainProgress]:
    """Take the steps that are left of a training, and say after each how far it is.

    Parameters
    ----------
    stepper : with the state from which to go on
    save : keeps the state; called before the first step and then every `save_every_s`

    Raises
    ------
    DivergedError
        If the loss or its gradient is no longer a number.
    """
    state, config, processes = stepper.state, stepper.config, stepper.processes
    started = time.monotonic() - state.elapsed_s
    stream = batches(stepper.data, state.step, config, processes.rank, processes.count)
    last_save_s = -math.inf

    def fraction() -> float:
        # by the first process's clock, so that all end with the same step
        return processes.from_first(fraction_done(config, state.step, state.elapsed_s))

    done = fraction()
    while done < 1:
        losses = stepper.losses(next(stream), done)
        # only here are the weights known to give a finite loss; and with a save before
        # the first step, a folder that can't be written is noticed at once
        if processes.is_first and time.monotonic() - last_save_s > config.save_every_s:
            save()
            last_save_s = time.monotonic()
        stepper.update(losses["total"], done)
        state.elapsed_s = time.monotonic() - started
        rate = config.learning_rate * rate_factor(config, done)
        done = fraction()
        yield TrainProgress(
            state.step,
            done,
            state.elapsed_s,
            state.step * config.batch * processes.count,
            rate,
            _values(losses),
        )


def _values(losses: dict[str, Tensor]) -> dict[str, float]:
    values = mean_over_processes(torch.stack(list(losses.values()))).tolist()
    return dict(zip(losses, values, strict=True))


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


def _save(
    out: Path,
    state: TrainingState,
    fitting: Fitting,
    config: TrainConfig,
    manifest: Manifest,
    n_processes: int,
) -> Manifest:
    state.write(out / STATE_FILE)
    counts = {"steps": state.step, "crops": state.step * config.batch * n_processes}
    minutes = round(state.elapsed_s / 60, 1)
    settings = {"settings": as_dict(config), **counts, "minutes": minutes}
    training = manifest.training | settings
    # a plain model of plain names, whatever was fitted
    weights = fitting.merged_state(state.average)
    return save_checkpoint(out, weights, dataclasses.replace(manifest, training=training))
