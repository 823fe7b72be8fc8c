"""Do the tiles' borders show? A crop of the user's image, segmented with and without them."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from dinomask.config import SegmentConfig
from dinomask.config.model import PATCH_PX
from dinomask.errors import InputError, SettingsError
from dinomask.image.doctor import examine, require_usable
from dinomask.image.normalise import fit_normaliser
from dinomask.image.resample import read_scaled
from dinomask.run.engines.tile_work import TileWork
from dinomask.run.predictor import Predictor
from dinomask.run.seam_scores import SeamReport, compare
from dinomask.run.size import estimate_diameter
from dinomask.tiles.plan import plan_tiles
from dinomask.tiles.stitch import Stitched, stitch

if TYPE_CHECKING:
    from collections.abc import Callable

    from dinomask.image.normalise import Normaliser
    from dinomask.image.source import Image
    from dinomask.instances import Instances
    from dinomask.tiles.plan import Box, TilePlan

__all__ = ["SeamReport", "seam_report"]

MAX_UNTILED_PX = 1400
"""Longest side that is shown to the network in one piece, in model pixels."""

_PLACES = 8
_LOOK_PX = 128


def seam_report(
    image: Image,
    config: SegmentConfig | None = None,
    predictor: Predictor | None = None,
    *,
    crop_px: int | None = None,
    on_tile: Callable[[int, int], None] | None = None,
) -> SeamReport:
    """Compare tiled with untiled on the busiest place where tiles meet.

    The tiles are those of the whole image; the same crop is then shown to the
    network in one piece, with a halo around it.

    Parameters
    ----------
    image : from `dinomask.image.open_image`
    config : settings, as for `segment`
    predictor : a loaded model to use again; None loads the one of `config`
    crop_px : side of the crop in image pixels; None takes two cores, and more
        than fits the network in one piece is cut to that
    on_tile : told of the tiles done and of all; may raise to stop

    Raises
    ------
    InputError
        If the image can't be segmented, or no object was found to estimate the diameter.
    SettingsError
        If the image is a single tile, which has no seams.
    """
    config = config or SegmentConfig()
    require_usable(examine(image))
    normaliser = fit_normaliser(image, config.normalise)
    predictor = Predictor.of(config, predictor)
    diameter_px = _diameter(image, normaliser, predictor, config)
    scale = predictor.target_diameter_px / diameter_px
    plan = plan_tiles(image.shape_yx, scale, config.tiles, predictor.network.side_step_px)
    if len(plan) == 1:
        raise SettingsError(
            expected="an image of several tiles",
            got=f"one of {image.shape_yx[0]} x {image.shape_yx[1]} px, which is a single tile",
            remedy="There are no seams to look at; use a smaller tile if you want some.",
        )
    work = TileWork(image, normaliser, plan, config)
    window = _crop(plan, _busiest_corner(image, normaliser, plan), crop_px)
    tiled, n_tiles = _tiled(work, predictor, window, on_tile)
    untiled = _untiled(work, predictor, window)
    return compare(plan, window, diameter_px, tiled, untiled, n_tiles)


def _diameter(
    image: Image, normaliser: Normaliser, predictor: Predictor, config: SegmentConfig
) -> float:
    if config.diameter_px != "auto":
        return config.diameter_px
    diameter_px = estimate_diameter(image, normaliser, predictor).diameter_px
    if diameter_px is None:
        raise InputError(
            expected="objects in the image",
            got="none that was found while estimating their size",
            remedy="Give their size (--diameter PX).",
        )
    return diameter_px


def _busiest_corner(image: Image, normaliser: Normaliser, plan: TilePlan) -> tuple[float, float]:
    """Find where tiles meet and the normalised intensities vary most; y and x in model pixels.

    An even choice of corners is looked at, so that an image of any size answers at once.
    """
    n_y, n_x = plan.grid_yx
    height, width = plan.shape_scaled_yx

    def seams(n: int, step: int, axis: int, size: int) -> list[float]:
        if n == 1:
            return [size / 2]
        chosen = np.unique(np.linspace(1, n - 1, min(_PLACES, n - 1)).round().astype(int))
        return [float(plan[int(i) * step].core_yxyx_px[axis]) for i in chosen]

    best, place = -1.0, (0.0, 0.0)
    for y in seams(n_y, n_x, 0, height):
        for x in seams(n_x, 1, 1, width):
            top, left = round(y) - _LOOK_PX // 2, round(x) - _LOOK_PX // 2
            around = (top, left, top + _LOOK_PX, left + _LOOK_PX)
            activity = float(read_scaled(image, normaliser, plan.scale, around).std())
            if activity > best:
                best, place = activity, (y, x)
    return place


def _crop(plan: TilePlan, centre_yx: tuple[float, float], crop_px: int | None) -> Box:
    """Place a square around a corner, within the image; in image pixels."""
    tile, halo = plan.config.tile_px, plan.config.halo_px
    side = 2 * (tile - 2 * halo) if crop_px is None else crop_px * plan.scale
    side = min(side, MAX_UNTILED_PX - 2 * halo - PATCH_PX)
    out = []
    for centre, n in zip(centre_yx, plan.shape_yx, strict=True):
        length = min(n, max(1, round(side / plan.scale)))
        start = round(centre / plan.scale - length / 2)
        out.append((min(max(start, 0), n - length), length))
    (top, height), (left, width) = out
    return top, left, top + height, left + width


def _tiled(
    work: TileWork,
    predictor: Predictor,
    window: Box,
    on_tile: Callable[[int, int], None] | None,
) -> tuple[Stitched, int]:
    plan = work.plan
    # what reaches into the crop may be owned by a tile beside it
    margin = math.ceil(plan.config.halo_px / plan.scale)
    top, left, bottom, right = window
    around = (
        max(top - margin, 0),
        max(left - margin, 0),
        min(bottom + margin, plan.shape_yx[0]),
        min(right + margin, plan.shape_yx[1]),
    )
    indices = list(plan.tiles_touching(around))
    records = []
    for i, index in enumerate(indices):
        pixels = work.read(index)
        if pixels is not None:
            found = predictor.detect(pixels, work.config.detect)
            records.append((index, work.keep(index, found)))
        if on_tile is not None:
            on_tile(i + 1, len(indices))
    return stitch(plan, records), len(list(plan.tiles_touching(window)))


def _untiled(work: TileWork, predictor: Predictor, window: Box) -> Stitched:
    """Show the crop and a halo around it to the network in one piece."""
    plan, detect = work.plan, work.config.detect
    halo, scale = plan.config.halo_px, plan.scale
    read: list[tuple[int, int]] = []
    for axis, size in enumerate(plan.shape_scaled_yx):
        first = math.floor(window[axis] * scale) - halo
        length = math.ceil(window[axis + 2] * scale) + halo - first
        length = max(PATCH_PX * math.ceil(length / PATCH_PX), plan.tile_yx_px[axis])
        first = max(0, min(first, size - length))
        read.append((first, first + length))
    (y0, y1), (x0, x1) = read
    pixels = read_scaled(work.image, work.normaliser, scale, (y0, x0, y1, x1))
    # limits are for one tile, and this holds several
    more = math.ceil((y1 - y0) * (x1 - x0) / plan.config.tile_px**2)
    limits = dataclasses.replace(
        detect, pre_nms=detect.pre_nms * more, max_instances=detect.max_instances * more
    )
    found = predictor.detect(pixels, limits)
    boxes = (found.boxes_yxyx_px + np.array([y0, x0, y0, x0], np.float32)) / np.float32(scale)
    return _alone(dataclasses.replace(found, boxes_yxyx_px=boxes))


def _alone(found: Instances) -> Stitched:
    ids = np.arange(1, len(found) + 1, dtype=np.uint32)
    return Stitched(found, np.zeros(len(found), np.int64), ids, 0)
