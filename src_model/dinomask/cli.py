"""The command line: the same actions as in napari, for scripts and clusters.

Options that stand for settings are derived from `dinomask.config`. Nothing
here imports torch before a command runs, so that help comes at once.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, TextIO

from cyclopts import App, CycloptsError, Parameter
from rich.table import Table

import dinomask
from dinomask.cli_options import (
    complain,
    err_console,
    fill_in_from_file,
    out_console,
)
from dinomask.cli_segment import doctor, segment
from dinomask.cli_train import evaluate, train, tune
from dinomask.config.options import option_name
from dinomask.errors import CancelledError, DinomaskError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_BAD_INPUT = 2
EXIT_CANCELLED = CancelledError.exit_code

app = App(
    name="dinomask",
    help="Segment cells in microscopy images of any kind and size.",
    version=dinomask.__version__,
    # `main` says that work can go on
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(name_transform=option_name, negative=(), consume_multiple=True),
)
models_app = App(name="models", help="List models, or tell about one.")
app.command(models_app)
app.command(segment)
app.command(doctor)
app.command(evaluate)
app.command(train, config=fill_in_from_file)
app.command(tune)


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
    """Run the command line and exit: 0 done, 2 bad input, 3 tiles failed, 130 cancelled."""
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
