"""The command line: the same actions as in napari, for scripts and clusters.

Options that stand for settings are derived from `dinomask.config`. Nothing
here imports torch before a command runs, so that help comes at once.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, TextIO

from cyclopts import App, CycloptsError, Parameter

import dinomask
from dinomask.cli_compress import compress
from dinomask.cli_explain import explain_app
from dinomask.cli_models import models_app
from dinomask.cli_options import (
    complain,
    err_console,
    fill_in_from_file,
)
from dinomask.cli_project import replay
from dinomask.cli_segment import doctor, segment
from dinomask.cli_teach import finetune
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
app.command(models_app)
app.command(explain_app)
app.command(segment)
app.command(doctor)
app.command(evaluate)
app.command(train, config=fill_in_from_file)
app.command(tune)
app.command(replay)
app.command(finetune)
app.command(compress)


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
