"""The command that teaches: a short training on corrections, kept as an adapter."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import dinomask
from dinomask.cli_options import (
    JsonPath,
    check_report,
    complain,
    err_console,
    require_data,
    say,
    write_report,
)
from dinomask.config import TeachConfig, as_dict
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.adapt.taught import TaughtImage

TEACH_DEFAULTS = TeachConfig()
TeachOptions = Annotated[TeachConfig, Parameter(name="*")]


def finetune(
    *data: Path,
    adapter: str,
    project: Path | None = None,
    split: str | None = None,
    limit_images: int | None = None,
    limit_objects: int | None = None,
    config: TeachOptions = TEACH_DEFAULTS,
    restart: bool = False,
    overwrite: bool = False,
    json: JsonPath = None,
) -> int:
    """Teach a model from corrections or annotated images; the result is an adapter.

    The adapter is compared with its base on objects that it did not learn from. If it is
    not better there, or forgot too much, it is kept but marked, and the reason is printed.
    A teaching that was stopped goes on when the same command is given again.

    Parameters
    ----------
    data
        Folders with images/, labels/ and optionally index.csv, or COCO json files
        beside their images.
    adapter
        Name of the adapter, for --adapter of the other commands.
    project
        Learn from the corrections of this project, made in napari, instead.
    split
        Only the images of this split.
    limit_images
        Learn from this many images at most, drawn at random.
    limit_objects
        Learn from this many objects at most, in a reviewed patch of each image.
    restart
        Forget a teaching of this name that was stopped.
    overwrite
        Replace an adapter of this name.
    json
        Write settings, machine and figures to this file.
    """
    from dinomask.adapt.finetune import finetune as run
    from dinomask.adapt.preflight import plan_teaching
    from dinomask.adapt.promotion import keep_aside, promote
    from dinomask.nets.adapters import adapters_folder, require_name
    from dinomask.run.report import machine
    from dinomask.terminal import TeachingBar

    check_report(json)
    _require_limits(limit_images, limit_objects)
    if project is not None and not config.classes:
        from dinomask.project import read_project

        config = dataclasses.replace(config, classes=read_project(project).classes)
    taught = _read(data, project, split, limit_images, limit_objects, config)
    state = adapters_folder().parent / "teaching" / require_name(adapter)
    if restart:
        shutil.rmtree(state, ignore_errors=True)
    plan = plan_teaching(taught, config)
    for warning in plan.warnings:
        complain("warning", warning)
    say(
        f"{plan.n_objects} objects to learn from, {plan.n_held_out} held out;"
        f" mode {plan.mode}, {config.minutes:g} min"
    )
    with TeachingBar(err_console) as bar:
        result = run(taught, state, adapter, config, bar, overwrite=overwrite)
    decide = promote if result.promoted else keep_aside
    decide(adapter, result.reason)
    report = {
        "dinomask_version": dinomask.__version__,
        "adapter": str(result.folder),
        "promoted": result.promoted,
        "reason": result.reason,
        "settings": as_dict(config),
        "machine": machine(),
        **result.figures,
    }
    write_report(json, report)
    say(result.reason)
    if not result.promoted:
        complain("warning", f"{adapter!r} did not pass; use it only if you know better")
    say(f"→ {result.folder}; use it with --adapter {adapter}")
    return 0


def _read(
    data: Sequence[Path],
    project: Path | None,
    split: str | None,
    limit_images: int | None,
    limit_objects: int | None,
    config: TeachConfig,
) -> list[TaughtImage]:
    if project is not None:
        from dinomask.project import read_project, taught_from_project

        if data:
            raise SettingsError(
                expected="a project or folders of annotated images",
                got="both",
                remedy="Leave one of them out.",
            )
        return taught_from_project(read_project(project))
    from dinomask.adapt.taught import limit_images as some_images
    from dinomask.adapt.taught import limit_objects as some_objects
    from dinomask.adapt.taught import taught_from_sample
    from dinomask.train.datasets import find_samples

    samples = find_samples(require_data(data), split)
    images = [taught_from_sample(sample, config.classes) for sample in samples]
    if limit_images is not None:
        images = some_images(images, limit_images, config.seed)
    if limit_objects is not None:
        images = some_objects(images, limit_objects, config.seed)
    return images


def _require_limits(*limits: int | None) -> None:
    for limit in limits:
        if limit is not None and limit < 1:
            raise SettingsError(
                expected="a limit of at least 1",
                got=str(limit),
                remedy="Leave it out to learn from all.",
            )
