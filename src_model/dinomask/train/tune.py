"""Search for the best way to train: many short trainings, the hopeless ones ended early.

A trial is one `train` of a few hundred steps. At each rung it is interrupted,
its checkpoint is scored on images held out, and it goes on from its saved state
if it is worth it; so a trial's result is that of a training in one piece.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import time
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

import dinomask
from dinomask.config import ModelConfig, SegmentConfig, TrainConfig, TuneConfig, as_dict
from dinomask.config.options import changed_options
from dinomask.errors import ModelError, SettingsError
from dinomask.nets.zoo import find_model, read_manifest, write_together
from dinomask.train.datasets import draw_evenly
from dinomask.train.evaluate import evaluate
from dinomask.train.loop import DivergedError, train
from dinomask.train.state import STATE_FILE
from dinomask.train.study import (
    FOLDER,
    SCORES,
    Outcome,
    Study,
    chosen_settings,
    fixed_settings,
    suggest,
    trial_folder,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import optuna

    from dinomask.train.datasets import Sample
    from dinomask.train.loop import TrainProgress

BEST_FILE = "best.json"
TABLE_FILE = "trials.csv"


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes
    ----------
    outcomes : of all trials, first to last
    best : the one with the highest score
    config : its settings
    command : the line that trains with them
    """

    outcomes: list[Outcome]
    best: Outcome
    config: TrainConfig
    command: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What was chosen in each trial, and its result; None where it has no such setting."""
        return [_row(outcome) for outcome in self.outcomes]


class _RungReachedError(Exception):
    """Raised out of a training to look at it; it is resumed afterwards."""


@dataclasses.dataclass(frozen=True)
class _Search:
    samples: Sequence[Sample]
    held_out: Sequence[Sample]
    out: Path
    config: TuneConfig
    base: TrainConfig
    start: dict[str, Any]
    segmentation: SegmentConfig
    on_step: Callable[[TrainProgress], None] | None

    @property
    def steps(self) -> int:
        return self.base.steps or 0


def tune(
    samples: Sequence[Sample],
    held_out: Sequence[Sample],
    out: Path,
    config: TuneConfig,
    base: TrainConfig,
    *,
    init: str | None = None,
    architecture: ModelConfig | None = None,
    backbone_weights: str | None = None,
    segmentation: SegmentConfig | None = None,
    arguments: Sequence[str] = (),
    on_step: Callable[[TrainProgress], None] | None = None,
    on_trial: Callable[[Outcome], None] | None = None,
) -> Tuned:
    """Search for settings, or go on with a search; stop it at any time.

    ``best.json`` and ``trials.csv`` in `out` are up to date after each trial; of the
    trials' checkpoints the best one is kept.

    Parameters
    ----------
    samples : annotated images to train on
    held_out : annotated images to score on
    out : folder of the search; an earlier search in it goes on
    config : what to search, and how
    base : settings of each trial; `steps` must be given, and what is searched is
        chosen anew in each
    init, architecture, backbone_weights : see `dinomask.train.loop.train`
    segmentation : how to segment the images held out; its model is the trial's
    arguments : data and model of the command line that is returned
    on_step : called after each step of each training
    on_trial : called after each trial

    Raises
    ------
    SettingsError
        If `base` has no steps, or sets what is searched, or `out` holds a search
        of other settings.
    ModelError
        If no trial gave a result.
    """
    _require_usable(base, config)
    identity = {"init": init, "architecture": as_dict(architecture) if architecture else None}
    start: dict[str, Any] = {"architecture": architecture, "backbone_weights": backbone_weights}
    if init is not None:
        manifest = read_manifest(find_model(init))
        identity["init"] = manifest.weights_sha256
        start |= {"init": init, "score_threshold": manifest.score_threshold}
    segmentation = dataclasses.replace(
        segmentation or SegmentConfig(), device=base.device, threads=base.threads
    )
    if config.score_images:
        held_out = draw_evenly(held_out, config.score_images, base.seed)
    search = _Search(samples, held_out, out, config, base, start, segmentation, on_step)
    fixed = fixed_settings(config, base, samples, held_out, **identity)
    study = Study(out, config, base.seed, fixed)
    while len(study.outcomes()) < config.trials:
        trial = study.ask()
        outcome = _run(trial, search)
        study.tell(trial, outcome)
        _write_results(search, study.outcomes(), arguments)
        if on_trial:
            on_trial(outcome)
    tuned = _write_results(search, study.outcomes(), arguments)
    if tuned is None:
        raise ModelError(
            expected="at least one trial with a result",
            got=f"{config.trials} that failed, the last one: {study.outcomes()[-1].note}",
            remedy="Lower the rates, e.g. --rate-range 1e-5 1e-3, in another --out.",
        )
    return tuned


def _require_usable(base: TrainConfig, config: TuneConfig) -> None:
    if not base.steps or base.minutes or base.steps < config.rungs:
        raise SettingsError(
            expected=f"a number of steps for each trial, at least {config.rungs}",
            got=f"{base.minutes} minutes" if base.minutes else f"{base.steps}",
            remedy="Add --steps 300, for example.",
        )
    default = TrainConfig()
    lora = dataclasses.replace(
        default.fit.lora,
        **{n: getattr(base.fit.lora, n) for n in ("blocks", "targets", "alpha", "block_ranks")},
        heads=base.fit.lora.heads,
    )
    fit = dataclasses.replace(default.fit, late_blocks=base.fit.late_blocks, lora=lora)
    searched = {"learning_rate": default.learning_rate, "weight_decay": default.weight_decay}
    chosen = [name for name, value in searched.items() if getattr(base, name) != value]
    if chosen or base.fit != fit:
        raise SettingsError(
            expected="settings that the search doesn't choose itself",
            got=f"a fixed {(chosen or ['way to fit'])[0]}",
            remedy="Narrow the search instead, e.g. --rate-range 3e-4 3e-4 or --fits lora.",
        )


def _run(trial: optuna.Trial, search: _Search) -> Outcome:
    folder = search.out / trial.user_attrs.get(FOLDER, trial_folder(trial.number))
    trial.set_user_attr(FOLDER, folder.name)
    known = trial.user_attrs.get(SCORES, {})
    config = suggest(trial, search.config.space, search.base)
    started = time.monotonic()
    state, score, end, note = "done", None, 0, ""
    rungs = search.config.rungs
    try:
        for rung in range(1, rungs + 1):
            end = search.steps * rung // rungs
            if str(end) in known:
                score = known[str(end)]
            else:
                _train_until(folder, config, end, search)
                score = _score(folder, search)
            trial.report(score, end)
            if rung < rungs and trial.should_prune():
                state = "pruned"
                break
    except (DivergedError, torch.OutOfMemoryError) as error:
        state, score, note = "failed", None, str(error)
    seconds = round(time.monotonic() - started, 1)
    return Outcome(state, score, end, seconds, as_dict(config), folder.name, note)  # type: ignore[arg-type]


def _train_until(folder: Path, config: TrainConfig, end: int, search: _Search) -> None:
    resume = (folder / STATE_FILE).exists()
    if resume and read_manifest(folder).training["steps"] >= end:
        return

    def on_step(progress: TrainProgress) -> None:
        if search.on_step:
            search.on_step(progress)
        # the last rung is the training's own end
        if progress.step == end < search.steps:
            raise _RungReachedError

    try:
        train(search.samples, folder, config, resume=resume, on_step=on_step, **search.start)
    except _RungReachedError:
        return


def _score(folder: Path, search: _Search) -> float:
    segmentation = dataclasses.replace(search.segmentation, model=str(folder))
    report = evaluate(search.held_out, segmentation)
    return float(report["mean"][search.config.metric])


def _write_results(
    search: _Search, outcomes: list[Outcome], arguments: Sequence[str]
) -> Tuned | None:
    """Write the table and the best; keep only the best trial's checkpoint."""
    done = [o for o in outcomes if o.state == "done"]
    best = max(done, key=lambda o: o.score or 0.0) if done else None
    table = pd.DataFrame([_row(o) for o in outcomes]).to_csv(index=False)
    files = {search.out / TABLE_FILE: table.encode()}
    tuned = None
    if best is not None:
        config = chosen_settings(best.settings, search.base)
        model = changed_options(search.start["architecture"] or ModelConfig())
        words = [*arguments, *model, *changed_options(config), "--out", str(search.out / "best")]
        tuned = Tuned(outcomes, best, config, shlex.join(["dinomask", "train", *words]))
        files[search.out / BEST_FILE] = (
            json.dumps(_report(tuned, search), indent=2) + "\n"
        ).encode()
    write_together(files)
    for outcome in outcomes:
        if outcome is not best:
            shutil.rmtree(search.out / outcome.folder, ignore_errors=True)
    return tuned


def _report(tuned: Tuned, search: _Search) -> dict[str, Any]:
    states = [outcome.state for outcome in tuned.outcomes]
    return {
        "dinomask_version": dinomask.__version__,
        "metric": search.config.metric,
        "score": tuned.best.score,
        "trial": tuned.best.folder,
        "command": tuned.command,
        "settings": tuned.best.settings,
        "trials": {state: states.count(state) for state in ("done", "pruned", "failed")},
    }


def _row(outcome: Outcome) -> dict[str, Any]:
    fit = outcome.settings["fit"]
    lora = fit["lora"] if fit["mode"] in ("lora", "hybrid") else {}
    own = fit["mode"] in ("full", "late", "hybrid")
    return {
        "trial": outcome.folder,
        "state": outcome.state,
        "score": outcome.score,
        "step": outcome.step,
        "seconds": outcome.seconds,
        "fit": fit["mode"],
        "learning_rate": outcome.settings["learning_rate"],
        "backbone_rate": fit["backbone_rate"] if own else None,
        "lora_rate": fit["lora_rate"] if lora else None,
        "layer_decay": fit["layer_decay"] if fit["mode"] != "frozen" else None,
        "weight_decay": outcome.settings["weight_decay"],
        **{name: lora.get(name) for name in ("rank", "rank_last", "dropout", "l1", "l2")},
        "note": outcome.note,
    }
