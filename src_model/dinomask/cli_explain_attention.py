"""The commands that show where a model looks: explain attention, explain maps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
    from dinomask.explain.attention import Heatmap
    from dinomask.explain.seen import SeenImage
    from dinomask.tiles.plan import Tile


def attention(
    image: str,
    /,
    *,
    output: OutPath,
    layer: int = -1,
    head: int | None = None,
    source: Literal["class", "registers", "all"] | None = None,
    point: Place = None,
    rollout: bool = False,
    heads: bool = False,
    config: SegmentOptions = SEGMENT_DEFAULTS,
    axes: str | None = None,
    plane: tuple[str, ...] = (),
    overwrite: bool = False,
    json: JsonPath = None,
) -> int:
    """Show where the model looks: attention of a transformer backbone.

    Values are multiples of even attention: 1 is what each place would get if the model looked
    at all places alike. Every tile is looked at by itself, as in a segmentation.

    Parameters
    ----------
    image
        What `segment` takes.
    output
        A map in the image's pixels (.tif, .zarr), or a picture with scale bar and caption (.png,
        .svg).
    layer
        Which block, from 0; -1 is the last.
    head
        One head, from 0; the mean of all, if left out.
    source
        Whose attention: the class token's, the register tokens', or that of all places. The class
        token's, if left out.
    point
        Attention from this place instead, y and x in image pixels; of its tile alone.
    rollout
        Follow attention through all layers up to the chosen one.
    heads
        Draw every head beside the others (pictures of one tile; without --point of the
        tile in the image's middle).
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

    _check_choice(head, rollout, heads, output)
    check_new(output, (*RASTER_SUFFIXES, *PICTURE_SUFFIXES), overwrite)
    check_report(json)
    seen = open_seen(image, config, axes, plane)
    check_new(output, (*RASTER_SUFFIXES, *PICTURE_SUFFIXES), overwrite, keep=[seen.image.path])
    chosen = _Chosen(layer, head, source, point, rollout)
    if heads:
        from dinomask.explain.attention_picture import draw_heads
        from dinomask.explain.picture import write_picture

        tile = seen.tile_at(point or _middle(seen))
        write_picture(draw_heads(seen, tile, layer, chosen.source), output)
    else:
        _write_attention(seen, chosen, output)
    write_report(json, {**describe_seen(seen), "attention": dataclasses.asdict(chosen)})
    say(f"{chosen.said} → {output}")
    return 0


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """Which attention."""

    layer: int
    head: int | None
    prefix: Literal["class", "registers", "all"] | None
    point: tuple[float, float] | None
    rollout: bool

    @property
    def source(self) -> Any:
        return self.prefix if self.point is None else self.point

    @property
    def said(self) -> str:
        """Say it in words."""
        if self.point is not None:
            whence = f"from y {self.point[0]:g}, x {self.point[1]:g}"
        else:
            names = {"class": "of the class token", "registers": "of the register tokens"}
            whence = names.get(self.prefix or "class", "of all places")
        what = "attention rollout up to" if self.rollout else "attention in"
        who = "" if self.rollout else ", mean of heads" if self.head is None else ""
        who = f", head {self.head}" if self.head is not None else who
        return f"{what} layer {self.layer}{who}, {whence}"

    def of(self, seen: SeenImage, tile: Tile) -> Heatmap:
        """Compute it for a tile."""
        from dinomask.explain.attention import attention_of

        if self.rollout:
            heat = attention_of(seen, tile).rollout(self.layer, self.source)
        else:
            heat = attention_of(seen, tile, [self.layer]).look(0, self.source, self.head)
        return dataclasses.replace(heat, values_yx=heat.relative_yx)


def _check_choice(head: int | None, rollout: bool, heads: bool, output: Path) -> None:
    if head is not None and (rollout or heads):
        raise SettingsError(
            expected="one head, or rollout, or all heads",
            got="--head with --rollout or --heads",
            remedy="Leave one of them out: rollout averages heads, and --heads draws all.",
        )
    if heads and output.suffix.lower() not in (".png", ".svg"):
        raise SettingsError(
            expected="a picture for --heads",
            got=output.name,
            remedy="Name it heads.png or heads.svg.",
        )


def _write_attention(seen: SeenImage, chosen: _Chosen, output: Path) -> None:
    from functools import partial

    from dinomask.explain.attention_picture import draw_mosaic, draw_tile
    from dinomask.explain.mosaic import Mosaic
    from dinomask.explain.picture import PICTURE_SUFFIXES, write_picture
    from dinomask.explain.rasters import Raster, write_raster
    from dinomask.terminal import ProgressBar

    is_picture = output.suffix.lower() in PICTURE_SUFFIXES
    tile = None if chosen.point is None else seen.tile_at(chosen.point)
    if is_picture and tile is not None:
        heat = chosen.of(seen, tile)
        write_picture(draw_tile(seen, tile, heat, chosen.said, chosen.point), output)
        return
    with ProgressBar(err_console) as bar:
        tiles = None if tile is None else [tile.index]
        mosaic = Mosaic.of(seen, partial(chosen.of, seen), tiles, bar)
    if is_picture:
        write_picture(draw_mosaic(seen, mosaic, chosen.said), output)
        return
    raster = Raster(
        mosaic.draw,
        (1, *seen.image.shape_yx),
        "float32",
        pixel_size_um=seen.image.pixel_size_um,
        channels=("attention",),
        notes={"attention": dataclasses.asdict(chosen)},
    )
    write_raster(raster, output)


def _middle(seen: SeenImage) -> tuple[float, float]:
    height, width = seen.image.shape_yx
    return height / 2, width / 2
