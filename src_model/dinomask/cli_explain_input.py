"""What the commands of `explain` share: how an image is opened, and what reports say of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from dinomask.cli_options import err_console
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from dinomask.config import SegmentConfig
    from dinomask.explain.seen import SeenImage
    from dinomask.image.source import Image

OutPath = Annotated[Path, Parameter(name=["-o", "--output"])]
Place = Annotated[tuple[float, float] | None, Parameter(consume_multiple=False)]
"""y and x in image pixels."""


def open_plane(
    image: str, config: SegmentConfig, axes: str | None, plane: tuple[str, ...]
) -> Image:
    """Open one plane of an image.

    Raises
    ------
    SettingsError
        If there are several and none is chosen.
    """
    from dinomask.image import open_stack
    from dinomask.image.axes import parse_planes

    stack = open_stack(image, axes=axes, channels=config.channels, planes=parse_planes(plane))
    if len(stack) > 1:
        raise SettingsError(
            expected="one plane to look at",
            got=f"{len(stack)} planes",
            remedy="Add --plane, such as --plane z=5.",
        )
    return stack.image(0)


def open_seen(
    image: str, config: SegmentConfig, axes: str | None, plane: tuple[str, ...]
) -> SeenImage:
    """Open one plane of an image, with the model of the settings.

    Raises
    ------
    SettingsError
        If there are several planes.
    """
    from dinomask.explain.seen import SeenImage
    from dinomask.terminal import ProgressBar

    opened = open_plane(image, config, axes, plane)
    with ProgressBar(err_console) as bar:
        return SeenImage.of(opened, config, on_progress=bar)


def describe_seen(seen: SeenImage) -> dict[str, Any]:
    """Return what a report says of model and image."""
    from dinomask.run.report import header

    return {
        **header(seen.predictor),
        "image": {"name": seen.image.name, "shape_yx": seen.image.shape_yx},
        "diameter_px": seen.predictor.target_diameter_px / seen.plan.scale,
    }
