"""The commands that need annotated images: train, tune, evaluate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

import dinomask
from dinomask.cli_options import (
    SEGMENT_DEFAULTS,
    TRAIN_DEFAULTS,
    TUNE_DEFAULTS,
    JsonPath,
    ModelOptions,
    SegmentOptions,
    TrainOptions,
    TuneOptions,
    check_report,
    err_console,
    out_console,
    require_data,
    say,
    write_report,
)
from dinomask.config import ModelConfig
from dinomask.config.files import read_train_file
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from dinomask.train.datasets import AnnotatedData
    from dinomask.train.study import Outcome

ConfigPath = Annotated[Path | None, Parameter(name="--config")]


def evaluate(
    *data: Path,
    split: str | None = None,
    config: SegmentOptions = SEGMENT_DEFAULTS,
    save: Path | None = None,
    json: JsonPath = None,
) -> int:
    """Segment annotated images and compare with their labels.

    Parameters
    ----------
    data
        Folders with images/, labels/ and optionally index.csv, or COCO json files
        beside their images.
    split
        Only the images of this split.
    save
        Write each predicted label image into this folder, as NAME.tif.
    json
        Write all figures to this file.
    """
    from dinomask.terminal import ProgressBar, accuracy_table, print_table
    from dinomask.train.datasets import find_samples
    from dinomask.train.evaluate import evaluate as run

    check_report(json)
    samples = find_samples(require_data(data), split)
    with ProgressBar(err_console) as bar:
        report = run(samples, config, save=save, on_progress=bar)
    write_report(json, report)
    print_table(out_console, accuracy_table(report))
    return 0


def train(
    *data: Path,
    out: Path,
    config: TrainOptions = TRAIN_DEFAULTS,
    file: ConfigPath = None,
    split: str | None = None,
    architecture: ModelOptions = None,
    classes: tuple[str, ...] = (),
    weights: str | None = None,
    init: str | None = None,
    resume: bool = False,
    score_threshold: float | None = None,
    json: JsonPath = None,
) -> int:
    """Train a model on annotated images and write a checkpoint folder.

    Parameters
    ----------
    data
        Folders with images/, labels/ and optionally index.csv, or COCO json files
        beside their images.
    out
        Checkpoint folder. It also keeps the state of the training, for --resume.
    file
        Settings in TOML, see configs/tiny_1.toml; options given here go before them.
    split
        Only the images of this split. Sets without a column of splits are parted about
        80 to 20 into train and val, groups kept together.
    classes
        Names of the object classes to tell apart, or auto for all that are annotated.
        Without it, all objects are of one class.
    weights
        Pretrained weights of the backbone: hub, or a .pth or .safetensors file.
    init
        Start from the weights of this model.
    resume
        Go on with the training in --out.
    score_threshold
        Stored in the checkpoint as the lowest score to report.
    json
        Write settings, machine and figures to this file.
    """
    from dinomask.nets.zoo import Manifest
    from dinomask.run.report import machine
    from dinomask.terminal import TrainingBar
    from dinomask.train.datasets import find_data
    from dinomask.train.generate import describe_generated
    from dinomask.train.loop import train as run
    from dinomask.train.processes import is_first_process

    check_report(json)
    if not data and file is not None:
        data = tuple(Path(folder) for folder in read_train_file(file).get("data", ()))
    names = None if classes in ((), ("auto",)) else classes
    found = find_data(require_data(data), split, classes=names)
    architecture = _with_classes(architecture, found, classes)
    if classes and config.generated_share:
        raise SettingsError(
            expected="no generated images where classes are told apart",
            got=f"a share of {config.generated_share:g}",
            remedy="Add --generated-share 0: all their objects would be of the first class.",
        )
    sources = found.sources + describe_generated(config.generated_share)
    manifest = Manifest(out.name, architecture or ModelConfig(), trained_on=sources)
    # of several processes the first one alone speaks and writes
    console = err_console if is_first_process() else Console(quiet=True)
    with TrainingBar(console) as bar:
        manifest = run(
            found.samples,
            out,
            config,
            architecture=architecture,
            init=init,
            backbone_weights=weights,
            resume=resume,
            score_threshold=score_threshold,
            manifest=manifest,
            on_step=bar,
        )
    if not is_first_process():
        return 0
    report = {"training": manifest.training, "machine": machine(), "losses": bar.losses}
    write_report(json, {"dinomask_version": dinomask.__version__, **report})
    say(f"{manifest.training['steps']} steps, {manifest.training['minutes']} min → {out}")
    return 0


def _with_classes(
    architecture: ModelConfig | None, found: AnnotatedData, classes: tuple[str, ...]
) -> ModelConfig | None:
    """Return the architecture with heads for the classes that were asked for."""
    if not classes:
        if architecture is not None and architecture.n_classes > 1 and not architecture.class_names:
            raise SettingsError(
                expected="names for the classes",
                got=f"{architecture.n_classes} classes without names",
                remedy="Add --classes auto, or their names.",
            )
        return architecture
    if classes == ("auto",) and found.unclassed:
        raise SettingsError(
            expected="a class for every object",
            got=f"none for the objects of {found.unclassed[0]}",
            remedy="Annotate them, or leave out --classes.",
        )
    settings: dict[str, Any] = {"n_classes": len(found.classes), "class_names": found.classes}
    if len(found.image_classes) > 1:
        settings |= {
            "image_classes": len(found.image_classes),
            "image_class_names": found.image_classes,
        }
    return dataclasses.replace(architecture or ModelConfig(), **settings)


def tune(
    *data: Path,
    out: Path,
    config: TuneOptions = TUNE_DEFAULTS,
    training: TrainOptions = TRAIN_DEFAULTS,
    split: str = "train",
    val_split: str = "val",
    architecture: ModelOptions = None,
    weights: str | None = None,
    init: str | None = None,
    json: JsonPath = None,
) -> int:
    """Search for the best way to train by many short trainings (Optuna).

    Stop it at any time; the same command goes on where it stopped, and more --trials
    add to a search. What was found is printed as a line that trains with it.

    Parameters
    ----------
    data
        Folders with images/, labels/ and optionally index.csv, or COCO json files
        beside their images.
    out
        Folder of the search: study.journal, trials.csv, best.json and the best trial.
    split
        Images to train on.
    val_split
        Images to score on.
    weights
        Pretrained weights of the backbone: hub, or a .pth or .safetensors file.
    init
        Start each trial from the weights of this model.
    json
        Write settings, machine and figures of all trials to this file.
    """
    from dinomask.run.report import machine
    from dinomask.terminal import TrainingBar, print_table, trials_table
    from dinomask.train.datasets import find_samples
    from dinomask.train.tune import tune as run

    check_report(json)
    folders = require_data(data)
    chosen = {"--init": init, "--weights": weights}
    given = [word for option, value in chosen.items() if value for word in (option, value)]

    def tell(outcome: Outcome) -> None:
        score = f"{outcome.score:.3f}" if outcome.score is not None else outcome.note
        say(f"{outcome.folder} {outcome.state}: {score}")

    with TrainingBar(err_console) as bar:
        tuned = run(
            find_samples(folders, split),
            find_samples(folders, val_split),
            out,
            config,
            training,
            init=init,
            architecture=architecture,
            backbone_weights=weights,
            arguments=[*map(str, folders), "--split", split, *given],
            on_step=bar,
            on_trial=tell,
        )
    report: dict[str, Any] = {"machine": machine(), "command": tuned.command, "trials": tuned.rows}
    write_report(json, {"dinomask_version": dinomask.__version__, **report})
    print_table(out_console, trials_table(tuned.rows))
    say(f"best: {tuned.best.folder}, {config.metric} {tuned.best.score:.3f}; to train with it:")
    say(tuned.command)
    return 0
