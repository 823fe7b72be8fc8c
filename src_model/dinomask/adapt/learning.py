"""The training within a teaching: crops of what is known, checks on the way, the best state."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from dinomask.adapt.taught import diameter_ratio, typical_diameter_px
from dinomask.adapt.teaching_notes import NOTES_FILE, Notes, read_notes, teaching_key
from dinomask.errors import ModelError, OutputError
from dinomask.nets.adapters import learned_tensors
from dinomask.nets.growing import grow_classes
from dinomask.nets.zoo import load_model, write_atomically
from dinomask.run.predictor import choose_device
from dinomask.run.sizes import are_mixed, for_mixed_sizes
from dinomask.train.balance import balancer_of
from dinomask.train.crops import CropStream, collate
from dinomask.train.fit import prepare_fit
from dinomask.train.processes import Processes
from dinomask.train.schedule import fraction_done
from dinomask.train.speed import autocast, prepare_speed
from dinomask.train.state import STATE_FILE, TrainingState
from dinomask.train.step import Stepper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from dinomask.adapt.clock import WorkClock
    from dinomask.adapt.taught import TaughtImage
    from dinomask.config import TeachConfig
    from dinomask.train.augment import Crop
    from dinomask.train.fit import Fitting

BEST_FILE = "best.safetensors"

SAVE_EVERY_S = 30.0

POOL = 192
"""Crops that are kept with their backbone features, where the backbone doesn't learn."""


class Learning:
    """One training that can be stopped and goes on; made by `begin`.

    Attributes
    ----------
    fitting : what of the model learns
    notes : what is remembered
    """

    def __init__(
        self,
        out: Path,
        config: TeachConfig,
        fitting: Fitting,
        stepper: Stepper,
        base_state: dict[str, Tensor],
        notes: Notes,
    ) -> None:
        self.out = out
        self.config = config
        self.fitting = fitting
        self.stepper = stepper
        self.notes = notes
        self._base_state = base_state
        self._pool: dict[int, tuple[Crop, list[Tensor]]] = {}
        self._saved = time.monotonic()

    @staticmethod
    def begin(
        taught: Sequence[TaughtImage],
        out: Path,
        config: TeachConfig,
        n_objects: int,
        classes: Sequence[str] = (),
    ) -> Learning:
        """Prepare a training, or take up the one in a folder.

        Parameters
        ----------
        taught : what is learned from; without what is held out
        out : folder of its state
        config : settings
        n_objects : known in all, by which the mode may be chosen
        classes : names of all classes, where there are more than the checkpoint's; see
            `dinomask.nets.growing`

        Raises
        ------
        OutputError
            If the folder holds another teaching.
        SettingsError
            If the classes don't begin with the checkpoint's.
        """
        model, manifest = load_model(config.model)
        base_state = {k: v.clone() for k, v in model.state_dict().items()}
        model = grow_classes(model, classes)
        key = teaching_key(taught, config, manifest.weights_sha256)
        notes = read_notes(out, key)
        device = choose_device(config.device)
        training = config.training(config.chosen_mode(n_objects), config.minutes)
        usual = training.augment
        if are_mixed(diameter_ratio(taught)):
            training = dataclasses.replace(training, augment=for_mixed_sizes(training.augment))
        torch.manual_seed(training.seed)
        prepare_speed(model.train(), training, device)
        fitting = prepare_fit(model, training.fit)
        balancer = balancer_of(training.balance, model.loss_names, model)
        groups = fitting.parameter_groups(training.learning_rate, training.weight_decay)
        state = TrainingState(model, {}, torch.optim.AdamW(groups), balancer)
        if notes.trained_s and (out / STATE_FILE).exists():
            state.read(out / STATE_FILE)
        else:
            notes = Notes(key)
            state.average = {k: v.clone() for k, v in model.state_dict().items()}
        state.to(device)
        typical = typical_diameter_px(taught)
        data = CropStream(
            [image.name for image in taught],
            [image.annotated(typical) for image in taught],
            [np.sqrt(image.n_objects + image.n_refuted + 1.0) for image in taught],
            training,
            model.config.target_diameter_px,
            model.config.class_names,
            # they keep what the base knows, at the scales at which it knows it
            generated_augment=usual,
        )
        stepper = Stepper(state, fitting, data, training, device, Processes())
        return Learning(out, config, fitting, stepper, base_state, notes)

    @property
    def step(self) -> int:
        """Steps done."""
        return self.stepper.state.step

    def run(
        self,
        quality: Callable[[dict[str, Tensor]], float],
        clock: WorkClock,
        check_s: float,
        reserve_s: float,
    ) -> None:
        """Train until the time or the steps are used up, and look how it does in between.

        Parameters
        ----------
        quality : of what was learned, on held-out objects
        clock : tells listeners
        check_s : what such a look takes
        reserve_s : time that must be left at the end
        """
        notes, config = self.notes, self.config
        if not notes.train_budget_s:
            spare = clock.left_s - config.checks * check_s - reserve_s
            notes.train_budget_s = max(spare, 0.3 * clock.budget_s)
        training = dataclasses.replace(
            self.stepper.config, minutes=notes.train_budget_s / 60, workers=0
        )
        self.stepper.config = training
        try:
            while (done := fraction_done(training, self.step, notes.trained_s)) < 1:
                self._one_step(done, clock)
                done = fraction_done(training, self.step, notes.trained_s)
                if done >= (len(notes.checks) + 1) / config.checks:
                    self._check(quality, clock)
                if time.monotonic() - self._saved > SAVE_EVERY_S:
                    self.save(clock)
        except BaseException:
            self.save(clock)
            raise
        if not notes.checks:
            self._check(quality, clock)

    def best_tensors(self) -> dict[str, Tensor]:
        """Return what the best state had learned, as in an adapter.

        Raises
        ------
        ModelError
            If its file is gone or damaged.
        """
        path = self.out / BEST_FILE
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(
                expected="the best state of this teaching",
                got=f"{path}: {error}",
                remedy="Start the teaching again in another folder.",
            ) from error

    def learned(self) -> dict[str, Tensor]:
        """Return what the averaged weights have learned so far."""
        return learned_tensors(self.stepper.state.average, self._base_state)

    def save(self, clock: WorkClock) -> None:
        """Write everything that going on needs."""
        self._saved = time.monotonic()
        self.notes.worked_s = clock.worked_s
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                expected=f"to write into {self.out}",
                got=error.strerror or str(error),
                remedy="Free some space or choose a folder you may write to.",
            ) from error
        self.stepper.state.write(self.out / STATE_FILE)
        text = json.dumps(dataclasses.asdict(self.notes))
        write_atomically(self.out / NOTES_FILE, text.encode())

    def forget(self) -> None:
        """Delete the state, once the adapter is kept elsewhere."""
        for name in (NOTES_FILE, STATE_FILE, BEST_FILE):
            (self.out / name).unlink(missing_ok=True)

    def _one_step(self, done: float, clock: WorkClock) -> None:
        started = clock.worked_s
        stepper = self.stepper
        numbers = list(stepper.crop_numbers())
        if self.fitting.config.mode == "frozen":
            crops, maps = self._pooled([i % POOL for i in numbers])
        else:
            crops, maps = [stepper.data[i] for i in numbers], None
        losses = stepper.losses(collate(crops), done, maps)
        stepper.update(losses["total"], done)
        loss = float(losses["total"].detach())
        self.notes.losses.append((self.step, round(loss, 4)))
        self.notes.trained_s += clock.worked_s - started
        clock.tell("train", self.step, loss)

    def _pooled(self, numbers: list[int]) -> tuple[list[Crop], list[Tensor]]:
        """Return crops and the frozen backbone's maps of them, made once a crop."""
        stepper = self.stepper
        for i in numbers:
            if i not in self._pool:
                crop = stepper.data[i]
                tile = collate([crop])[0].to(stepper.device)
                with torch.no_grad(), autocast(stepper.config, stepper.device):
                    maps = self.fitting.model.backbone_maps(tile)
                self._pool[i] = crop, [m.to(torch.bfloat16) for m in maps]
        chosen = [self._pool[i] for i in numbers]
        levels = zip(*(maps for _, maps in chosen), strict=True)
        return [crop for crop, _ in chosen], [torch.cat(level).float() for level in levels]

    def _check(self, quality: Callable[[dict[str, Tensor]], float], clock: WorkClock) -> None:
        tensors = self.learned()
        value = quality(tensors)
        self.notes.checks.append((self.step, value))
        # of equals the later one has seen more
        if value >= self.notes.best:
            self.notes.best = value
            payload = save({k: v.contiguous() for k, v in tensors.items()})
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomically(self.out / BEST_FILE, payload)
        self.save(clock)
        clock.tell("train", self.step, held_out=value)
