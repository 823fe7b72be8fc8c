"""The search: real short trainings, stopped and gone on with, ended early, failed."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import TYPE_CHECKING

import optuna
import pandas as pd
import pytest

from dinomask.config import (
    FitConfig,
    LoraSettings,
    SearchSpace,
    SegmentConfig,
    TrainConfig,
    TuneConfig,
    as_dict,
)
from dinomask.errors import ModelError, SettingsError
from dinomask.nets.zoo import load_model
from dinomask.train.datasets import Sample, draw_evenly, find_samples
from dinomask.train.study import Outcome, Study, chosen_settings, suggest
from dinomask.train.tune import BEST_FILE, TABLE_FILE, Tuned, tune
from tests.nets.small import small_config
from tests.train.scenes import write_folder

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.train.loop import TrainProgress

BASE = TrainConfig(steps=4, batch=2, crop_px=56, rois_per_image=4, device="cpu", threads=1)
# rates from harmless to absurd, so that some trials spoil the bundled model that they start from
SPACE = SearchSpace(fits=("late", "full"), rate_range=(1e-6, 10.0))
CONFIG = TuneConfig(trials=3, rungs=2, startup_trials=1, metric="ap50", space=SPACE)
SEED = 0


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return find_samples([write_folder(tmp_path_factory.mktemp("data") / "discs")])


def search(
    samples: list[Sample], out: Path, trials: int = CONFIG.trials, stop_at: int | None = None
) -> Tuned:
    """Search as the fixture does; interrupt at a step of all trainings together."""
    taken = 0

    def on_step(progress: TrainProgress) -> None:
        nonlocal taken
        taken += 1
        if taken == stop_at:
            raise KeyboardInterrupt

    return tune(
        samples[:1],
        samples[1:],
        out,
        dataclasses.replace(CONFIG, trials=trials),
        dataclasses.replace(BASE, seed=SEED),
        init="tiny",
        segmentation=SegmentConfig(diameter_px=18.0),
        arguments=["my data", "--init", "tiny"],
        on_step=on_step,
    )


@pytest.fixture(scope="module")
def straight(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tuned]:
    out = tmp_path_factory.mktemp("straight") / "study"
    return out, search(samples, out)


def test_the_best_is_kept_and_told(straight: tuple[Path, Tuned]) -> None:
    out, tuned = straight
    done = [o for o in tuned.outcomes if o.state == "done"]
    assert tuned.best.score == max(o.score for o in done) > 0.5
    assert tuned.best.step == 4
    report = json.loads((out / BEST_FILE).read_text())
    assert report["score"] == tuned.best.score
    assert report["settings"] == json.loads(json.dumps(as_dict(tuned.config)))
    assert report["trials"] == {"done": 2, "pruned": 1, "failed": 0}
    # a line to paste: the data as given, and what was found
    words = shlex.split(report["command"])
    assert words[:5] == ["dinomask", "train", "my data", "--init", "tiny"]
    assert words[words.index("--learning-rate") + 1] == str(tuned.config.learning_rate)
    assert words[words.index("--fit") + 1 :][0] == tuned.config.fit.mode or (
        tuned.config.fit.mode == "full" and "--fit" not in words
    )
    # of the checkpoints, the best alone is left
    assert [p.name for p in out.glob("trial_*")] == [tuned.best.folder]
    _, manifest = load_model(str(out / tuned.best.folder))
    assert manifest.training["steps"] == 4
    assert manifest.training["settings"]["learning_rate"] == tuned.config.learning_rate


def test_hopeless_trials_end_early(straight: tuple[Path, Tuned]) -> None:
    _, tuned = straight
    pruned = [o for o in tuned.outcomes if o.state == "pruned"]
    assert pruned
    assert all(o.step == 2 and (o.score or 0.0) < (tuned.best.score or 0.0) for o in pruned)


def test_the_table_has_a_row_a_trial(straight: tuple[Path, Tuned]) -> None:
    out, tuned = straight
    table = pd.read_csv(out / TABLE_FILE)
    assert list(table["state"]) == [o.state for o in tuned.outcomes]
    assert list(table["learning_rate"]) == [o.settings["learning_rate"] for o in tuned.outcomes]
    assert table["rank"].isna().all(), "no LoRA in this search"


def essence(outcome: Outcome) -> tuple[object, ...]:
    return outcome.state, outcome.score, outcome.step, outcome.settings


def test_interrupted_and_extended_it_finds_the_same(
    samples: list[Sample], straight: tuple[Path, Tuned], tmp_path: Path
) -> None:
    out = tmp_path / "study"
    # in the first trial's second half, after its first score
    with pytest.raises(KeyboardInterrupt):
        search(samples, out, trials=2, stop_at=3)
    first = search(samples, out, trials=2)
    assert len(first.outcomes) == 2
    assert first.outcomes[0].folder == "trial_0000", "trained on from where it stopped"
    more = search(samples, out)
    assert [essence(o) for o in more.outcomes] == [essence(o) for o in straight[1].outcomes]
    assert more.config == straight[1].config
    # asked for no more trials than there are, it trains nothing
    assert search(samples, out, stop_at=1).best == more.best


def test_a_search_goes_on_only_with_its_own_settings(
    samples: list[Sample], straight: tuple[Path, Tuned]
) -> None:
    out, _ = straight
    before = (out / BEST_FILE).read_bytes()
    config = dataclasses.replace(CONFIG, metric="ap50_95")
    with pytest.raises(SettingsError, match="another metric"):
        tune(samples[:1], samples[1:], out, config, BASE, init="tiny")
    base = dataclasses.replace(BASE, batch=3)
    with pytest.raises(SettingsError, match="another training"):
        tune(samples[:1], samples[1:], out, CONFIG, base, init="tiny")
    with pytest.raises(SettingsError, match="another data"):
        tune(samples, samples[1:], out, CONFIG, BASE, init="tiny")
    with pytest.raises(SettingsError, match="another init"):
        tune(samples[:1], samples[1:], out, CONFIG, BASE)
    assert (out / BEST_FILE).read_bytes() == before


def test_failed_trials_are_not_the_end(samples: list[Sample], tmp_path: Path) -> None:
    wild = SearchSpace(fits=("full",), rate_range=(1e30, 1e30), backbone_share_range=(1.0, 1.0))
    config = TuneConfig(trials=2, rungs=1, space=wild)
    base = dataclasses.replace(BASE, warmup=0.0)
    told: list[Outcome] = []
    with pytest.raises(ModelError, match="at least one trial with a result"):
        tune(
            samples[:1], samples[1:], tmp_path, config, base,
            architecture=small_config(), on_trial=told.append,
        )  # fmt: skip
    assert [o.state for o in told] == ["failed", "failed"]
    assert all(o.score is None and "finite" in o.note for o in told)
    assert len(pd.read_csv(tmp_path / TABLE_FILE)) == 2
    assert not list(tmp_path.glob("trial_*"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": None}, "--steps"),
        ({"steps": 1}, "at least 2"),
        ({"minutes": 3.0}, "3.0 minutes"),
        ({"learning_rate": 1e-3}, "a fixed learning_rate"),
        ({"fit": FitConfig(layer_decay=0.7)}, "a fixed way to fit"),
        ({"fit": FitConfig(lora=LoraSettings(rank=3))}, "a fixed way to fit"),
    ],
)
def test_settings_that_cannot_be_searched_with(
    samples: list[Sample], tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        tune(samples, samples, tmp_path / "x", CONFIG, dataclasses.replace(BASE, **changes))
    assert not (tmp_path / "x").exists()


def trials(n: int) -> list[optuna.Trial]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [study.ask() for _ in range(n)]


def test_suggestions_lie_in_the_space_and_come_back_from_json() -> None:
    space = SearchSpace(fits=("full", "late", "lora", "hybrid", "frozen"))
    lora = LoraSettings(rank=8, alpha=16, blocks=(1, 2), targets=("q", "v"))
    base = TrainConfig(steps=3, fit=FitConfig(late_blocks=2, lora=lora))
    found = [suggest(trial, space, base) for trial in trials(40)]
    assert {c.fit.mode for c in found} == set(space.fits)
    for config in found:
        fit = config.fit
        assert 0.99e-4 <= config.learning_rate <= 3.01e-3
        assert 0.99e-3 <= config.weight_decay <= 0.201
        own = fit.mode in ("full", "late", "hybrid")
        assert (fit.backbone_rate is not None) == own
        assert (fit.lora_rate is not None) == fit.uses_lora
        for rate in (fit.backbone_rate, fit.lora_rate):
            assert rate is None or 0.009 <= rate / config.learning_rate <= 1.01
        assert (fit.late_blocks, fit.lora.blocks, fit.lora.targets) == (2, (1, 2), ("q", "v"))
        assert (fit.lora != lora) == fit.uses_lora
        assert fit.lora.alpha == 2 * fit.lora.rank
        assert chosen_settings(json.loads(json.dumps(as_dict(config))), base) == config


def test_ranges_of_one_value_are_fixed() -> None:
    space = SearchSpace(
        rate_range=(1e-3, 1e-3),
        ranks=(4,),
        layer_decay_range=(1.0, 1.0),
        dropout_range=(0.0, 0.0),
    )
    for trial in trials(3):
        config = suggest(trial, space, BASE)
        assert config.learning_rate == 1e-3
        assert (config.fit.layer_decay, config.fit.lora.dropout) == (1.0, 0.0)
        assert (config.fit.lora.rank, config.fit.lora.rank_last) == (4, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fits": ()},
        {"ranks": (0,)},
        {"rate_range": (1e-3, 1e-4)},
        {"rate_range": (0.0, 1e-4)},
        {"dropout_range": (0.0, 1.0)},
        {"layer_decay_range": (0.5, 1.5)},
    ],
)
def test_spaces_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        SearchSpace(**wrong)
    with pytest.raises(SettingsError):
        TuneConfig(rungs=0)


@pytest.mark.parametrize("prune", [True, False])
def test_worse_than_the_median_is_ended_early_after_the_first_trials(
    tmp_path: Path, prune: bool
) -> None:
    study = Study(tmp_path, TuneConfig(startup_trials=3, prune=prune), 0, {})
    asked = []
    for score in (0.5, 0.6, 0.7, 0.59, 0.61):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.report(score, 2)
        asked.append(trial.should_prune())
        study.tell(trial, Outcome("done", score, 2, 1.0, {}, f"t{score}"))
    # the median of the first three is 0.6, of the first four 0.595
    assert asked == [False, False, False, prune, False]
    again = Study(tmp_path, TuneConfig(startup_trials=3, prune=prune), 0, {})
    assert [o.score for o in again.outcomes()] == [0.5, 0.6, 0.7, 0.59, 0.61]


def test_trials_are_scored_on_some_of_the_images(samples: list[Sample], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, trials=1)
    base = dataclasses.replace(BASE, seed=SEED)
    # not there, and never missed
    gone = dataclasses.replace(samples[1], image=tmp_path / "gone.tif")
    drawn = draw_evenly([samples[1], gone], 1, SEED)
    held_out = [samples[1], gone] if drawn == [samples[1]] else [gone, samples[1]]
    assert draw_evenly(held_out, 1, SEED) == [samples[1]]
    some = dataclasses.replace(config, score_images=1)
    tuned = tune(samples[:1], held_out, tmp_path / "some", some, base, init="tiny")
    assert tuned.best.score is not None
    # a search of the same images may go on however they were chosen
    every = dataclasses.replace(config, score_images=0, trials=1)
    again = tune(samples[:1], [samples[1]], tmp_path / "some", every, base, init="tiny")
    assert again.outcomes == tuned.outcomes
