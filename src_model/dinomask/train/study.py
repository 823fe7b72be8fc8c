"""The record of a search: trials asked for and told, kept in a file by Optuna.

Akiba et al., "Optuna: a next-generation hyperparameter optimization framework",
arXiv 1907.10902. Settings are proposed by the tree-structured Parzen estimator
(Bergstra et al., NeurIPS 2011), trials ended early by the median rule (Golovin
et al., "Google Vizier", KDD 2017).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from dinomask.config import as_dict
from dinomask.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dinomask.config import SearchSpace, TrainConfig, TuneConfig
    from dinomask.train.datasets import Sample

STUDY_FILE = "study.journal"
SETTINGS = "settings"
OUTCOME = "outcome"
"""Attribute of a finished trial; one without it was interrupted."""

FOLDER, SCORES = "folder", "scores"
"""Attributes of a trial that goes on: where its training is, and its scores so far by step."""

_STATES: dict[str, TrialState] = {
    "done": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes
    ----------
    state : trained to its last step, ended early, or without a result
    score : at the last rung it reached, None if there was none
    step : of that rung
    seconds : spent on it, earlier, interrupted parts left out
    settings : what it was trained with, as plain dictionaries
    folder : name of its folder
    note : why it failed
    """

    state: Literal["done", "pruned", "failed"]
    score: float | None
    step: int
    seconds: float
    settings: dict[str, Any]
    folder: str
    note: str = ""


class Study:
    """A search in a folder, one process at a time; opened where it stopped.

    Parameters
    ----------
    out : folder of the search, made if missing
    settings : what must be the same when it is opened again; plain json

    Raises
    ------
    SettingsError
        If it was begun with other settings.
    OutputError
        If the folder can't be written.
    """

    def __init__(self, out: Path, config: TuneConfig, seed: int, settings: dict[str, Any]) -> None:
        self.config = config
        self.seed = seed
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = out / STUDY_FILE
        try:
            out.mkdir(parents=True, exist_ok=True)
            backend = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
            pruner = (
                optuna.pruners.MedianPruner(n_startup_trials=config.startup_trials)
                if config.prune
                else optuna.pruners.NopPruner()
            )
            self._study = optuna.create_study(
                storage=JournalStorage(backend),
                study_name="dinomask",
                direction="maximize",
                load_if_exists=True,
                pruner=pruner,
            )
        except OSError as error:
            raise OutputError(
                expected=f"to write {path}",
                got=error.strerror or str(error),
                remedy="Choose a folder you may write to.",
            ) from error
        self._require_same(out, settings)
        self._take_up_interrupted()

    def outcomes(self) -> list[Outcome]:
        """Return the finished trials, first to last."""
        attributes = [t.user_attrs.get(OUTCOME) for t in self._study.get_trials(deepcopy=False)]
        return [Outcome(**a) for a in attributes if a is not None]

    def ask(self) -> optuna.Trial:
        """Begin a trial: an interrupted one, else one with new settings."""
        # chance depends on the number of finished trials alone, so that a search that was
        # interrupted proposes what it would have proposed otherwise
        entropy = np.random.SeedSequence((self.seed, len(self.outcomes()))).generate_state(1)
        self._study.sampler = optuna.samplers.TPESampler(
            seed=int(entropy[0]), n_startup_trials=self.config.startup_trials
        )
        return self._study.ask()

    def tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        """Write down how a trial ended."""
        trial.set_user_attr(OUTCOME, dataclasses.asdict(outcome))
        value = outcome.score if outcome.state == "done" else None
        self._study.tell(trial, value, state=_STATES[outcome.state])

    def _require_same(self, out: Path, settings: dict[str, Any]) -> None:
        # as json gives them back: tuples become lists
        settings = json.loads(json.dumps(settings))
        before = self._study.user_attrs.get(SETTINGS)
        if before is None:
            self._study.set_user_attr(SETTINGS, settings)
            return
        changed = [key for key in settings if before.get(key) != settings[key]]
        if changed:
            raise SettingsError(
                expected=f"the settings that the search in {out} was begun with",
                got=f"another {changed[0]}",
                remedy="Go on with the same settings, or begin a search in another --out.",
            )

    def _take_up_interrupted(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if OUTCOME not in trial.user_attrs and trial.params:
                known = trial.intermediate_values
                scores = trial.user_attrs.get(SCORES, {}) | {str(k): v for k, v in known.items()}
                folder = trial.user_attrs.get(FOLDER, trial_folder(trial.number))
                attributes = {FOLDER: folder, SCORES: scores}
                self._study.enqueue_trial(trial.params, user_attrs=attributes)
            self._study.tell(trial.number, state=TrialState.FAIL)


def trial_folder(number: int) -> str:
    """Name the folder of a trial."""
    return f"trial_{number:04d}"


def suggest(trial: optuna.Trial, space: SearchSpace, base: TrainConfig) -> TrainConfig:
    """Return the settings of a trial: the base's, with what the search chooses.

    Numbers are rounded to three digits, so that they can be read and typed.
    """

    def number(name: str, ends: tuple[float, float], *, log: bool = True) -> float:
        return float(f"{trial.suggest_float(name, *ends, log=log):.3g}")

    rate = number("learning_rate", space.rate_range)
    mode: Any = trial.suggest_categorical("fit", space.fits)
    fit = dataclasses.replace(base.fit, mode=mode)
    if fit.mode in ("full", "late", "hybrid"):
        share = number("backbone_share", space.backbone_share_range)
        fit = dataclasses.replace(fit, backbone_rate=float(f"{rate * share:.3g}"))
    if fit.uses_lora:
        share = number("lora_share", space.backbone_share_range)
        first, last = (trial.suggest_categorical(n, space.ranks) for n in ("rank", "rank_last"))
        lora = dataclasses.replace(
            fit.lora,
            rank=first,
            rank_last=last,
            alpha=fit.lora.alpha / fit.lora.rank * first,
            dropout=number("dropout", space.dropout_range, log=False),
            l1=number("l1", space.penalty_range),
            l2=number("l2", space.penalty_range),
        )
        fit = dataclasses.replace(fit, lora=lora, lora_rate=float(f"{rate * share:.3g}"))
    if fit.mode != "frozen":
        decay = number("layer_decay", space.layer_decay_range, log=False)
        fit = dataclasses.replace(fit, layer_decay=decay)
    weight_decay = number("weight_decay", space.weight_decay_range)
    return dataclasses.replace(base, learning_rate=rate, weight_decay=weight_decay, fit=fit)


def chosen_settings(settings: dict[str, Any], base: TrainConfig) -> TrainConfig:
    """Return what `suggest` returned, from its plain dictionaries."""
    fit, lora = dict(settings["fit"]), dict(settings["fit"]["lora"])
    names = ("rank", "rank_last", "alpha", "dropout", "l1", "l2")
    del fit["lora"]
    lora_settings = dataclasses.replace(base.fit.lora, **{name: lora[name] for name in names})
    return dataclasses.replace(
        base,
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        fit=dataclasses.replace(base.fit, lora=lora_settings, **fit),
    )


def fixed_settings(
    config: TuneConfig,
    base: TrainConfig,
    samples: Sequence[Sample],
    held_out: Sequence[Sample],
    **more: Any,
) -> dict[str, Any]:
    """Return what must not change within a search; the number of trials may."""
    searched = as_dict(config)
    # how many images are scored on shows in which
    del searched["trials"], searched["score_images"]
    names = [[f"{s.dataset}/{s.name}" for s in part] for part in (samples, held_out)]
    data = hashlib.sha256(json.dumps(names).encode()).hexdigest()
    return {**searched, "training": as_dict(base), "data": data, **more}
