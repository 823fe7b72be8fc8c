"""The commands that look at images: segment, doctor."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from dinomask.cli_options import (
    ENGINE_DEFAULTS,
    PLANES_DEFAULTS,
    SEGMENT_DEFAULTS,
    EngineOptions,
    JsonPath,
    PlanesOptions,
    SegmentOptions,
    check_report,
    err_console,
    list_failed,
    say,
    warn,
    write_report,
)
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from dinomask.config import EngineConfig, PlanesConfig, SegmentConfig
    from dinomask.image.stack import Stack
    from dinomask.run.planes import StackSegmentation
    from dinomask.run.segment import Segmentation

EXIT_TILES_FAILED = 3


def segment(
    image: str,
    /,
    *,
    output: Annotated[Path, Parameter(name=["-o", "--output"])],
    config: SegmentOptions = SEGMENT_DEFAULTS,
    axes: str | None = None,
    plane: tuple[str, ...] = (),
    engine: EngineOptions = ENGINE_DEFAULTS,
    linking: PlanesOptions = PLANES_DEFAULTS,
    resume: Annotated[bool, Parameter(negative="--restart")] = True,
    overwrite: bool = False,
    overlay: Path | None = None,
    json: JsonPath = None,
) -> int:
    """Find every object of an image and write a label image.

    Parameters
    ----------
    image
        TIFF, OME-TIFF, PNG, JPEG, NPY, zarr or OME-Zarr; of zarr also its address, such
        as https://….
    output
        Label image: .tif, or .zarr for an OME-Zarr pyramid. The table of objects is
        written beside it.
    axes
        Names of the image's axes, e.g. zyx, where the file doesn't tell.
    plane
        Which planes of a movie or stack: z=5, t=3:9, z=10:. All, if left out.
    resume
        Go on with an interrupted run of the same settings, or begin anew.
    overwrite
        Replace an existing output.
    overlay
        Also write a picture (PNG) of the image with the objects' outlines.
    json
        Write settings, timings and figures to this file.
    """
    from dinomask.image import open_stack
    from dinomask.image.axes import parse_planes

    stack = open_stack(image, axes=axes, channels=config.channels, planes=parse_planes(plane))
    check_report(json)
    _check_one_plane(stack, linking, overlay)
    result = _run(
        *(stack, output, config, engine, linking), overwrite=overwrite, restart=not resume
    )
    warn(result.findings)
    list_failed(result.failed_tiles)
    if overlay is not None:
        _draw(stack, result, overlay)
    write_report(json, result.report)
    size = f"at {result.diameter_px:g} px, " if result.diameter_px else ""
    seconds = sum(result.report["timings_s"].values())
    say(f"{_count(result.report)} {size}{seconds:.1f} s → {output}")
    return EXIT_TILES_FAILED if result.failed_tiles else 0


def _count(report: dict[str, Any]) -> str:
    linked = report.get("n_objects")
    sections = f"{report['n_instances']} objects"
    return sections if linked is None else f"{linked} objects in {report['n_instances']} sections"


def _run(
    stack: Stack,
    output: Path,
    config: SegmentConfig,
    engine: EngineConfig,
    linking: PlanesConfig,
    **how: bool,
) -> Segmentation | StackSegmentation:
    from dinomask.run.engines import make_engine
    from dinomask.run.planes import segment_planes
    from dinomask.run.segment import segment as segment_one
    from dinomask.terminal import ProgressBar

    with ProgressBar(err_console) as bar, make_engine(engine) as workers:
        common: dict[str, Any] = {**how, "engine": workers, "on_progress": bar}
        if len(stack) > 1:
            return segment_planes(stack, output, config, linking, **common)
        return segment_one(stack.image(0), output, config, **common)


def _check_one_plane(stack: Stack, linking: PlanesConfig, overlay: Path | None) -> None:
    """Refuse options that don't fit the number of planes."""
    if len(stack) > 1 and overlay is not None:
        raise SettingsError(
            expected="one plane, to draw a picture of",
            got=f"{len(stack)} planes",
            remedy="Add --plane, such as --plane z=5, or leave out --overlay.",
        )
    if len(stack) == 1 and linking.stitch_z is not None:
        raise SettingsError(
            expected="several planes, to link their objects",
            got="one plane",
            remedy="Leave out --stitch-z, or name the axes of the stack (--axes zyx).",
        )


def _draw(stack: Stack, result: Segmentation | StackSegmentation, path: Path) -> None:
    from dinomask.run.overlay import write_overlay
    from dinomask.run.segment import Segmentation

    if isinstance(result, Segmentation):
        write_overlay(stack.image(0), result.stitched, path)


def doctor(
    image: str | None = None,
    /,
    *,
    system: bool = False,
    axes: str | None = None,
    plane: tuple[str, ...] = (),
    seams: bool = False,
    config: SegmentOptions = SEGMENT_DEFAULTS,
    json: JsonPath = None,
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
        Which planes of a movie or stack, as for `segment`.
    seams
        Also segment a crop with and without tiles, with the settings given, and compare.
    json
        Write what was found to this file.
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
    from dinomask.image import describe, open_stack, require_usable
    from dinomask.image.axes import parse_planes
    from dinomask.image.stack import examine_stack

    stack = open_stack(image, axes=axes, channels=config.channels, planes=parse_planes(plane))
    check_report(json)
    say(describe(stack.base))
    if len(stack) > 1:
        say(f"{len(stack)} planes")
    findings = examine_stack(stack)
    for finding in findings:
        say(f"{finding.severity}: {finding.what} {finding.remedy}")
    report: dict[str, Any] = {"findings": [dataclasses.asdict(f) for f in findings]}
    if seams:
        require_usable(findings)
        report["seams"] = _compare_seams(stack, config)
    write_report(json, report)
    require_usable(findings)
    return 0


def _compare_seams(stack: Stack, config: SegmentConfig) -> dict[str, Any]:
    from dinomask.run.seams import seam_report

    result = seam_report(stack.image(0), config)
    say(f"{result.finding.severity}: {result.finding.what} {result.finding.remedy}")
    return result.as_dict()
