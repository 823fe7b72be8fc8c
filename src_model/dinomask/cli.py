"""The command line: the same actions as in napari, for scripts and clusters.

Options that stand for settings are derived from `dinomask.config`. Nothing
here imports torch before a command runs, so that help comes at once.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

from cyclopts import App, CycloptsError, Parameter
from rich.table import Table

import dinomask
from dinomask.cli_options import (
    SEGMENT_DEFAULTS,
    JsonPath,
    SegmentOptions,
    check_report,
    complain,
    err_console,
    fill_in_from_file,
    out_console,
    parse_plane,
    say,
    warn,
    write_report,
)
from dinomask.cli_train import evaluate, train, tune
from dinomask.config.options import option_name
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
app.command(evaluate)
app.command(train, config=fill_in_from_file)
app.command(tune)


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


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if category.__module__.startswith("dinomask"):
        complain("warning", str(message))
    else:
        (file or sys.stderr).write(
            warnings.formatwarning(message, category, filename, lineno, line)
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 bad input, 130 cancelled (resumable)."""
    warnings.showwarning = _show_warning
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
