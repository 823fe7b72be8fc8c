"""The command that shows what detector and mask head see: explain maps."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Literal

from dinomask.cli_explain_input import OutPath, Place, describe_seen, open_seen
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
    from pathlib import Path

    from dinomask.explain.attention import Heatmap
    from dinomask.explain.seen import SeenImage
    from dinomask.tiles.plan import Tile

_WHAT = {
    "score": "the detector's score, √(class · centerness)",
    "class": "the detector's class score",
    "centerness": "the detector's centerness",
}


def maps(
    image: str,
    /,
    *,
    output: OutPath,
    kind: Literal["score", "class", "centerness"] = "score",
    level: Literal["7", "14", "28"] | None = None,
    class_id: int | None = None,
    point: Place = None,
    config: SegmentOptions = SEGMENT_DEFAULTS,
    axes: str | None = None,
    plane: tuple[str, ...] = (),
    overwrite: bool = False,
    json: JsonPath = None,
) -> int:
    """Show what the detector sees, and say why an object was missed.

    Works for every backbone. Values are 0 to 1.

    Parameters
    ----------
    image
        What `segment` takes.
    output
        A map in the image's pixels (.tif, .zarr), or a picture with scale bar and caption (.png,
        .svg).
    kind
        Which map: class · centerness, or one of the two.
    level
        Which level of the pyramid, by its stride in model pixels; the highest value of all, if
        left out.
    class_id
        Which class, from 0; the likeliest at each place, if left out.
    point
        A place, y and x in image pixels: says why there is an object or none, and draws all maps
        of its tile with the mask head's attention (pictures only).
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

    if point is not None and output.suffix.lower() not in PICTURE_SUFFIXES:
        raise SettingsError(
            expected="a picture for --point",
            got=output.name,
            remedy="Name it why.png or why.svg, or leave out --point.",
        )
    check_new(output, (*RASTER_SUFFIXES, *PICTURE_SUFFIXES), overwrite)
    check_report(json)
    seen = open_seen(image, config, axes, plane)
    check_new(output, (*RASTER_SUFFIXES, *PICTURE_SUFFIXES), overwrite, keep=[seen.image.path])
    report = describe_seen(seen)
    if point is not None:
        from dinomask.explain.heads_picture import draw_reason
        from dinomask.explain.picture import write_picture

        figure, reason = draw_reason(seen, point, config.detect)
        write_picture(figure, output)
        report["reason"] = dataclasses.asdict(reason)
        say(reason.sentence)
    else:
        _write_maps(seen, partial(_compute, seen, kind, level, class_id), kind, output)
    write_report(json, report)
    say(f"{_WHAT[kind] if point is None else 'the maps of the tile'} → {output}")
    return 0


def _compute(
    seen: SeenImage,
    kind: Literal["score", "class", "centerness"],
    level: str | None,
    class_id: int | None,
    tile: Tile,
) -> Heatmap:
    from dinomask.explain.heads import heads_of

    heads = heads_of(seen, tile)
    if level is None:
        return heads.merged(kind, class_id)
    return heads.level(kind, float(level), class_id)


def _write_maps(seen: SeenImage, compute: partial[Heatmap], kind: str, output: Path) -> None:
    from dinomask.explain.attention_picture import draw_mosaic
    from dinomask.explain.mosaic import Mosaic
    from dinomask.explain.picture import PICTURE_SUFFIXES, write_picture
    from dinomask.explain.rasters import Raster, write_raster
    from dinomask.terminal import ProgressBar

    with ProgressBar(err_console) as bar:
        mosaic = Mosaic.of(seen, compute, on_progress=bar)
    if output.suffix.lower() in PICTURE_SUFFIXES:
        figure = draw_mosaic(seen, mosaic, _WHAT[kind], unit=kind, highest=1.0)
        write_picture(figure, output)
        return
    raster = Raster(
        mosaic.draw,
        (1, *seen.image.shape_yx),
        "float32",
        pixel_size_um=seen.image.pixel_size_um,
        channels=(kind,),
    )
    write_raster(raster, output)
