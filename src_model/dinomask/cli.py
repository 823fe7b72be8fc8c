"""The command line: the same actions as in napari, for scripts and clusters.

Options that stand for settings are derived from `dinomask.config`. Nothing
here imports torch before a command runs, so that help comes at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.table import Table

import dinomask
from dinomask.cli_options import (
    SEGMENT_DEFAULTS,
    TRAIN_DEFAULTS,
    JsonPath,
    SegmentOptions,
    TrainOptions,
    check_report,
    complain,
    err_console,
    option_name,
    out_console,
    parse_plane,
    require_data,
    say,
    warn,
    write_report,
)
from dinomask.config import ModelConfig
from dinomask.errors import CancelledError, DinomaskError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_BAD_INPUT = 2
EXIT_CANCELLED = CancelledError.exit_code

app = App(
    name="dinomask",
    help="Segment cells in microscopy images of any kind and size.",
    version=dinomask.__version__,
    default_parameter=Parameter(name_transform=option_name, negative=(), consume_multiple=True),
)
models_app = App(name="models", help="List models, or tell about one.")
app.command(models_app)


@app.command
def segment(
    image: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["-o", "--output"])],
    config: SegmentOptions = SEGMENT_DEFAULTS,
    axes: str | None = None,
    plane: tuple[str, ...] = (),
    engine: Literal["serial"] = "serial",
    resume: Annotated[bool, Parameter(negative="--restart")] = True,
    overwrite: bool = False,
    overlay: Path | None = None,
    json: JsonPath = None,
) -> int:
    """Find every object of an image and write a label image.

    Parameters
    ----------
    image
        TIFF, OME-TIFF, PNG, JPEG, NPY, zarr or OME-Zarr.
    output
        Label image: .tif, or .zarr for an OME-Zarr pyramid. The table of objects is
        written beside it.
    axes
        Names of the image's axes, e.g. zyx, where the file doesn't tell.
    plane
        Which plane of a movie or stack, e.g. z=5.
    engine
        How tiles are worked through.
    resume
        Go on with an interrupted run of the same settings, or begin anew.
    overwrite
        Replace an existing output.
    overlay
        Also write a picture (PNG) of the image with the objects' outlines.
    json
        Write settings, timings and figures to this file.
    """
    from dinomask.image import open_image
    from dinomask.run.overlay import write_overlay
    from dinomask.run.segment import segment as run
    from dinomask.terminal import ProgressBar

    source = open_image(image, axes=axes, channels=config.channels, plane=parse_plane(plane))
    check_report(json)
    with ProgressBar(err_console) as bar:
        result = run(
            source, output, config, overwrite=overwrite, restart=not resume, on_progress=bar
        )
    warn(result.findings)
    if overlay is not None:
        write_overlay(source, result.stitched, overlay)
    write_report(json, result.report)
    size = f"at {result.diameter_px:g} px, " if result.diameter_px else ""
    seconds = sum(result.report["timings_s"].values())
    say(f"{len(result.table)} objects {size}{seconds:.1f} s → {output}")
    return 0


@app.command
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


@app.command
def train(
    *data: Path,
    out: Path,
    config: TrainOptions = TRAIN_DEFAULTS,
    split: str | None = None,
    backbone: str | None = None,
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
    split
        Only the images of this split.
    backbone
        Our tiny one, or timm's name of a DINOv2, ViT, MAE, CLIP, SAM, Swin, Swin V2, ConvNeXt,
        ResNet, MobileNetV3, MobileNetV4 or EfficientNet model, e.g. vit_small_patch14_reg4_dinov2,
        vit_base_patch16_224.mae, convnext_tiny. Tags choose among published weights.
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
    from dinomask.train.datasets import describe_sources, find_samples
    from dinomask.train.generate import describe_generated
    from dinomask.train.loop import train as run

    check_report(json)
    folders = require_data(data)
    samples = find_samples(folders, split)
    architecture = ModelConfig(backbone=backbone) if backbone else None
    sources = describe_sources(folders, split) + describe_generated(config.generated_share)
    manifest = Manifest(out.name, architecture or ModelConfig(), trained_on=sources)
    with TrainingBar(err_console) as bar:
        manifest = run(
            samples,
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
    report = {"training": manifest.training, "machine": machine(), "losses": bar.losses}
    write_report(json, {"dinomask_version": dinomask.__version__, **report})
    say(f"{manifest.training['steps']} steps, {manifest.training['minutes']} min → {out}")
    return 0


@models_app.command(name="list")
def list_() -> int:
    """List the models that can be named."""
    from dinomask.nets.catalogue import list_models, read_manifest
    from dinomask.terminal import print_table

    table = Table("name", "backbone", "classes", "trained on", "folder", box=None)
    for name, folder in list_models().items():
        manifest = read_manifest(folder)
        table.add_row(
            name,
            manifest.architecture.backbone,
            str(manifest.architecture.n_classes),
            ", ".join(d.get("name", "") for d in manifest.trained_on),
            str(folder),
        )
    print_table(out_console, table)
    return 0


@models_app.command
def info(model: str, /) -> int:
    """Print a model's manifest.

    Parameters
    ----------
    model
        Name or checkpoint folder.
    """
    from dinomask.nets.catalogue import find_model

    out_console.print_json((find_model(model) / "manifest.json").read_text(encoding="utf-8"))
    return 0


@app.command
def doctor(
    image: Path | None = None,
    /,
    *,
    system: bool = False,
    axes: str | None = None,
    plane: tuple[str, ...] = (),
) -> int:
    """Examine an image, or this machine, and say what to do.

    Parameters
    ----------
    image
        What `segment` takes.
    system
        Tell about this machine instead.
    axes
        Names of the image's axes, where the file doesn't tell.
    plane
        Which plane of a movie or stack, e.g. z=5.
    """
    if system:
        from dinomask.run.report import machine

        for key, value in machine().items():
            say(f"{key:10} {value}")
        return 0
    if image is None:
        raise SettingsError(
            expected="an image, or --system",
            got="neither",
            remedy="Try: dinomask doctor my_image.tif",
        )
    from dinomask.image import describe, examine, open_image, require_usable

    source = open_image(image, axes=axes, plane=parse_plane(plane))
    say(describe(source))
    findings = examine(source)
    for finding in findings:
        say(f"{finding.severity}: {finding.what} {finding.remedy}")
    require_usable(findings)
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 bad input, 130 cancelled (resumable)."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False, error_console=err_console)
    except DinomaskError as error:
        complain("error", str(error))
        code = error.exit_code
    except CycloptsError as error:
        complain("error", f"{error} See: dinomask --help")
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        err_console.print("cancelled; run the same command again to go on")
        code = EXIT_CANCELLED
    sys.exit(code)
