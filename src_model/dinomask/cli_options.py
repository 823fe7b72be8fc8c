"""What the commands share: options derived from settings, messages, reports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from dinomask.config import (
    AugmentConfig,
    DetectConfig,
    NormaliseConfig,
    SegmentConfig,
    TileConfig,
    TrainConfig,
)
from dinomask.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.image.doctor import Finding

for _config in (AugmentConfig, DetectConfig, NormaliseConfig, TileConfig):
    # nested settings become options of their own: --tile, not --tiles.tile-px
    Parameter(name="*")(_config)

SEGMENT_DEFAULTS = SegmentConfig()
TRAIN_DEFAULTS = TrainConfig()
SegmentOptions = Annotated[SegmentConfig, Parameter(name="*")]
TrainOptions = Annotated[TrainConfig, Parameter(name="*")]
JsonPath = Annotated[Path | None, Parameter(name="--json")]

out_console = Console()
err_console = Console(stderr=True)


def option_name(field: str) -> str:
    """Name an option like its field, without the unit: diameter_px is --diameter."""
    return re.sub(r"_(px|s|um|pct)$", "", field).replace("_", "-")


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


def parse_plane(items: Sequence[str]) -> dict[str, int]:
    """Read --plane z=5 t=0 as {"z": 5, "t": 0}.

    Raises
    ------
    SettingsError
        If it names another axis or no index.
    """
    plane = {}
    for item in items:
        axis, _, index = item.partition("=")
        if axis not in ("t", "z") or not index.isdigit():
            raise SettingsError(
                expected="--plane t=INDEX or z=INDEX, counted from 0",
                got=repr(item),
                remedy="For the sixth plane of a stack: --plane z=5.",
            )
        plane[axis] = int(index)
    return plane


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
