"""What the commands share: options derived from settings, messages, reports."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.config import Dict
from rich.console import Console
from rich.markup import escape

from dinomask.config import (
    AugmentConfig,
    BalanceConfig,
    DetectConfig,
    EngineConfig,
    FitConfig,
    LoraSettings,
    ModelConfig,
    NetworkShape,
    NormaliseConfig,
    PlanesConfig,
    SearchSpace,
    SegmentConfig,
    TileConfig,
    TrainConfig,
    TuneConfig,
)
from dinomask.config.files import read_train_file
from dinomask.config.options import option_name
from dinomask.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App, ArgumentCollection

    from dinomask.image.doctor import Finding
    from dinomask.run.detect import FailedTile

NESTED = {
    AugmentConfig: "Augmentation",
    BalanceConfig: "Balance of the losses",
    DetectConfig: "Detection",
    EngineConfig: "Engine",
    FitConfig: "Ways to fit",
    LoraSettings: "LoRA",
    ModelConfig: "Architecture",
    NormaliseConfig: "Normalisation",
    PlanesConfig: "Movies and stacks",
    SearchSpace: "Search space",
    TileConfig: "Tiles",
}
"""Settings whose fields become options of their own, --tile and not --tiles.tile-px, each
class with its heading in the help."""

for _config, _heading in NESTED.items():
    Parameter(
        name="*",
        group=_heading,
        name_transform=partial(option_name, owner=_config),
        # what is on by default can be turned off
        negative=None if _config is TileConfig else (),
    )(_config)

# what compression did to a network is no setting of a training
Parameter(parse=False)(NetworkShape)

SEGMENT_DEFAULTS = SegmentConfig()
ENGINE_DEFAULTS = EngineConfig()
PLANES_DEFAULTS = PlanesConfig()
TRAIN_DEFAULTS = TrainConfig()
SegmentOptions = Annotated[SegmentConfig, Parameter(name="*")]
EngineOptions = Annotated[EngineConfig, Parameter(name="*")]
PlanesOptions = Annotated[PlanesConfig, Parameter(name="*")]
TUNE_DEFAULTS = TuneConfig()
TrainOptions = Annotated[TrainConfig, Parameter(name="*")]
TuneOptions = Annotated[TuneConfig, Parameter(name="*")]
ModelOptions = Annotated[ModelConfig | None, Parameter(name="*")]
JsonPath = Annotated[Path | None, Parameter(name="--json")]

MAX_LISTED = 20
"""Failed tiles that are printed."""

out_console = Console()
err_console = Console(stderr=True)


def say(text: str) -> None:
    """Print a line of a result; nothing in it is taken for markup."""
    out_console.print(escape(text), highlight=False, soft_wrap=True)


def complain(kind: str, text: str) -> None:
    """Print an error or a warning, apart from the results."""
    colour = "red" if kind == "error" else "yellow"
    # paths may hold brackets, which rich would take for markup
    err_console.print(f"[{colour}]{kind}:[/] {escape(text)}", highlight=False, soft_wrap=True)


def warn(findings: Sequence[Finding]) -> None:
    """Print the findings that may spoil a result."""
    for finding in findings:
        if finding.severity != "info":
            complain(finding.severity, f"{finding.what} {finding.remedy}")


def list_failed(tiles: Sequence[FailedTile]) -> None:
    """Print where tiles failed, and why."""
    for tile in tiles[:MAX_LISTED]:
        complain("warning", f"tile {tile.index} ({tile.place}) failed: {tile.reason}")
    if len(tiles) > MAX_LISTED:
        complain("warning", f"and {len(tiles) - MAX_LISTED} more; --json FILE lists them all")


def fill_in_from_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take what the line doesn't give from the file of --config (a `config` of cyclopts)."""
    option, *_ = arguments.match("--config")
    if option.tokens:
        path = Path(option.tokens[0].value)
        options = read_train_file(path)
        # positional, so that the command asks for them itself
        options.pop("data", None)
        Dict(options, source=str(path), use_commands_as_keys=False)(app, commands, arguments)


def require_data(data: Sequence[Path]) -> list[Path]:
    """Return the folders of annotated images.

    Raises
    ------
    SettingsError
        If there is none.
    """
    if not data:
        raise SettingsError(
            expected="at least one folder of annotated images",
            got="none",
            remedy="Give a folder that has images/ and labels/, or a COCO json.",
        )
    return list(data)


def check_report(path: Path | None) -> None:
    """Refuse a report that can't be written before the work and not after it.

    Raises
    ------
    OutputError
        If its folder is missing.
    """
    if path is not None and not path.parent.is_dir():
        raise OutputError(
            expected="a folder that exists for --json",
            got=str(path.parent),
            remedy="Create it first, or choose another place.",
        )


def write_report(path: Path | None, report: dict[str, Any]) -> None:
    """Write a report as json, at one stroke; nothing without a path."""
    if path is None:
        return
    from dinomask.tiles.outputs import replacing

    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
