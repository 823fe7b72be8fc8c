"""The commands that look at features: explain pca, explain features."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from dinomask.cli_explain_input import OutPath, open_plane
from dinomask.cli_options import (
    SEGMENT_DEFAULTS,
    JsonPath,
    SegmentOptions,
    check_report,
    err_console,
    say,
    write_report,
)
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinomask.config import SegmentConfig
    from dinomask.explain.collect import ImageObjects
    from dinomask.explain.objects import ObjectFeatures
    from dinomask.explain.pca import TokenColours
    from dinomask.image.source import Image

Layers = Annotated[tuple[int, ...], Parameter(name="--layer")]
LabelPaths = Annotated[tuple[Path, ...], Parameter(name="--labels")]


def pca(
    image: str,
    /,
    *,
    output: OutPath,
    layer: int | None = None,
    compare: bool = False,
    config: SegmentOptions = SEGMENT_DEFAULTS,
    axes: str | None = None,
    plane: tuple[str, ...] = (),
    overwrite: bool = False,
    json: JsonPath = None,
) -> int:
    """Show what the model sees alike: an image's tokens, coloured by their first components.

    Places of one colour look alike to the model. Colours are fitted on the whole image, so they
    mean the same everywhere in it, but not in other images.

    Parameters
    ----------
    image
        What `segment` takes.
    output
        Colours in the image's pixels (.tif, .zarr), or a picture with scale bar and caption
        (.png, .svg).
    layer
        Which layer of the backbone, from 0; -1 is the last. Left out, the one at three quarters
        of the depth.
    compare
        With --adapter: fit the colours without the adapter and show it in the same ones. A
        picture shows both; beside a .tif or .zarr the one without is written as NAME_before.
    axes
        Names of the image's axes, where the file doesn't tell.
    plane
        Which plane of a movie or stack: z=5.
    overwrite
        Replace an existing output.
    json
        Write settings and figures to this file.
    """
    from dinomask.explain.outputs import check_new
    from dinomask.explain.picture import PICTURE_SUFFIXES
    from dinomask.explain.rasters import RASTER_SUFFIXES

    if compare and config.adapter is None:
        raise SettingsError(
            expected="an adapter to compare with the bare model",
            got="none",
            remedy="Add --adapter NAME, or leave out --compare.",
        )
    opened = open_plane(image, config, axes, plane)
    before = output.with_name(f"{output.stem}_before{output.suffix}")
    raster = output.suffix.lower() in RASTER_SUFFIXES
    for path in (output, *((before,) if compare and raster else ())):
        check_new(path, (*RASTER_SUFFIXES, *PICTURE_SUFFIXES), overwrite, keep=[opened.path])
    check_report(json)
    found = _colours(opened, config, layer, compare, output.parent)
    if raster:
        _write_colours(found, [before, output] if compare else [output], config)
    else:
        from dinomask.explain.feature_pictures import draw_colours
        from dinomask.explain.picture import write_picture

        write_picture(draw_colours(opened, found), output)
    shown = list(found.values())[-1]
    shares = [round(float(s), 4) for s in shown.components.shares]
    write_report(json, {"layer": shown.layer, "variance_shares": shares, "image": opened.name})
    percent = ", ".join(f"{s:.0%}" for s in shares)
    say(f"layer {shown.layer}: the colours hold {percent} of the variance → {output}")
    return 0


def _colours(
    image: Image, config: SegmentConfig, layer: int | None, compare: bool, scratch: Path
) -> dict[str, TokenColours]:
    """Colour an image, with --compare first without the adapter."""
    from dinomask.explain.pca import colour_tokens
    from dinomask.terminal import ProgressBar

    common: dict[str, Any] = {"layer": layer, "scratch": scratch}
    with ProgressBar(err_console) as bar:
        if not compare:
            return {
                "what the model sees alike": colour_tokens(image, config, **common, on_progress=bar)
            }
        bare = dataclasses.replace(config, adapter=None)
        first = colour_tokens(image, bare, **common, on_progress=bar)
        # the object size that the base estimated, so that places can be compared
        scale = dataclasses.replace(config, diameter_px=first.diameter_px)
        then = colour_tokens(image, scale, **common, basis=first, on_progress=bar)
    return {"without the adapter": first, f"with {config.adapter}": then}


def _write_colours(
    found: dict[str, TokenColours], paths: Sequence[Path], config: SegmentConfig
) -> None:
    from dinomask.explain.rasters import write_raster

    for path, colours in zip(paths, found.values(), strict=True):
        write_raster(colours.raster({"model": config.model}), path)


def features(
    *images: str,
    output: OutPath,
    labels: LabelPaths = (),
    layer: Layers = (),
    config: SegmentOptions = SEGMENT_DEFAULTS,
    axes: str | None = None,
    plane: tuple[str, ...] = (),
    overwrite: bool = False,
    json: JsonPath = None,
) -> int:
    """Write what the model sees in each object: its tokens' mean, with ids and measurements.

    Parameters
    ----------
    images
        One or several, each what `segment` takes.
    output
        .zarr, .h5ad (AnnData, for scanpy), .parquet or .csv.
    labels
        Label image of each image, such as the output of `segment`. Without them the images are
        segmented first.
    layer
        Which layers of the backbone, from 0; -1 is the last. Left out, the one at three quarters
        of the depth.
    axes
        Names of the images' axes, where the files don't tell.
    plane
        Which plane of movies or stacks: z=5.
    overwrite
        Replace an existing output.
    json
        Write settings and figures to this file.
    """
    from dinomask.explain.object_files import FEATURE_SUFFIXES, write_features
    from dinomask.explain.outputs import check_new

    check_new(output, FEATURE_SUFFIXES, overwrite)
    check_report(json)
    found = collect(images, labels, config, layer, axes, plane)
    write_features(found, output)
    report = {"n_objects": len(found), "images": found.images, "layers": found.layers}
    write_report(json, {**report, "model": dict(found.model)})
    width = found.vectors().shape[1]
    say(f"{len(found)} objects, {width} features a layer → {output}")
    return 0


def collect(
    images: Sequence[str],
    labels: Sequence[Path],
    config: SegmentConfig,
    layers: Sequence[int],
    axes: str | None = None,
    plane: tuple[str, ...] = (),
) -> ObjectFeatures:
    """Compute the features of the objects of images, as a command names them.

    Raises
    ------
    SettingsError
        If there is no image, or another number of labels.
    """
    from dinomask.explain.collect import ImageObjects

    if not images:
        raise SettingsError(
            expected="at least one image", got="none", remedy="Name an image to look at."
        )
    if labels and len(labels) != len(images):
        raise SettingsError(
            expected=f"a label image for each of {len(images)} images",
            got=f"{len(labels)}",
            remedy="Give them in the same order, or leave --labels out to segment the images.",
        )
    opened = [open_plane(image, config, axes, plane) for image in images]
    items = [ImageObjects(one, labels[i] if labels else None) for i, one in enumerate(opened)]
    return collect_images(items, config, layers)


def collect_images(
    images: Sequence[ImageObjects], config: SegmentConfig, layers: Sequence[int]
) -> ObjectFeatures:
    """Compute the features of the objects of images, with a progress bar."""
    from dinomask.explain.collect import collect_features
    from dinomask.terminal import ProgressBar

    with ProgressBar(err_console) as bar:
        return collect_features(images, config, layers=layers, on_progress=bar)
