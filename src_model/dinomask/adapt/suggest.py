"""Where a look of the user's helps most: in tiles that the model doubts, unlike those it knows."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING

import numpy as np

from dinomask.adapt.choosing import Candidate, Suggestion, choose
from dinomask.config import TileConfig
from dinomask.errors import ChunkError
from dinomask.image.normalise import fit_normaliser
from dinomask.instances import Instances
from dinomask.run.blank import CONTRAST_FLOOR, block_contrast
from dinomask.run.engines.tile_work import TileWork
from dinomask.run.fusion import group_instances
from dinomask.run.places import busy_points
from dinomask.run.progress import Progress
from dinomask.run.views import View
from dinomask.tiles.plan import plan_tiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dinomask.adapt.reviewed import Reviewed
    from dinomask.config import SegmentConfig
    from dinomask.image.normalise import Normaliser
    from dinomask.image.source import Image
    from dinomask.run.predictor import Predictor
    from dinomask.run.progress import OnProgress
    from dinomask.tiles.plan import Box, TilePlan

__all__ = ["Candidate", "Suggestion", "assess", "choose", "count_doubts", "suggest"]

DOUBT_RANGE = (0.45, 1.4)
"""Scores within these multiples of the threshold are doubtful: 0.14 to 0.42 for the bundled model's
0.3; of what scores so on its validation images, about two in five are objects."""

TILES = TileConfig(tile_px=196, halo_px=28)
"""Tiles small enough to be corrected in a minute, with some surroundings: there are twenty objects
in one, and of the same number of corrections more places are seen."""

MOST_TILES = 48
"""So many tiles of an image are looked at, the busiest places of a large one."""

_MIRROR = View(flip_x=True)


def suggest(
    image: Image,
    predictor: Predictor,
    config: SegmentConfig,
    diameter_px: float,
    *,
    n: int = 3,
    reviewed: Sequence[Reviewed] = (),
    on_progress: OnProgress | None = None,
) -> list[Suggestion]:
    """Suggest tiles of one image, the most helpful first; see `assess` and `choose`."""
    assessed = assess(
        image, predictor, config, diameter_px, reviewed=reviewed, on_progress=on_progress
    )
    return choose(assessed, n)


def assess(
    image: Image,
    predictor: Predictor,
    config: SegmentConfig,
    diameter_px: float,
    *,
    reviewed: Sequence[Reviewed] = (),
    on_progress: OnProgress | None = None,
) -> list[Candidate]:
    """Look at tiles of an image, plain and mirrored, and note what the model doubts.

    Parameters
    ----------
    image : one plane
    predictor : the model, with the adapter it has so far
    config : settings of the segmentation; those of tiles don't matter
    diameter_px : median diameter of the objects, in image pixels
    reviewed : regions of this plane that are done
    on_progress : told after each tile; may raise to cancel

    Returns
    -------
    tiles in which there is something to see

    Raises
    ------
    InputError
        If the image can't be read.
    """
    normaliser = fit_normaliser(image, config.normalise)
    plan = plan_tiles(image.shape_yx, predictor.target_diameter_px / diameter_px, TILES)
    work = TileWork(image, normaliser, plan, dataclasses.replace(config, tiles=TILES))
    places = _places(image, normaliser, plan)
    started = time.monotonic()
    found = []
    for i, index in enumerate(places):
        candidate = _look(work, predictor, index, reviewed)
        if candidate is not None:
            found.append(candidate)
        if on_progress:
            elapsed_s = time.monotonic() - started
            on_progress(Progress("detect", i + 1, len(places), elapsed_s))
    return found


def count_doubts(
    plain: Instances,
    mirrored: Instances,
    threshold: float,
    shape_yx: tuple[int, int],
    core_yxyx_px: tuple[float, float, float, float],
) -> tuple[int, int]:
    """Count the objects of a tile that the model may be wrong about.

    Parameters
    ----------
    plain, mirrored : found in the tile and in its mirror image, in the tile's
        frame, down to the lowest score of `DOUBT_RANGE`
    threshold : from which score on objects are reported
    shape_yx : of the tile
    core_yxyx_px : where objects count, by the centres of their boxes

    Returns
    -------
    n_doubtful : the higher of its two scores is in the range
    n_disagreeing : it is above the range in one view, and isn't found in the other
    """
    joined = Instances.concatenate([plain, mirrored])
    of_view = np.repeat([0, 1], [len(plain), len(mirrored)])
    y0, x0, y1, x1 = core_yxyx_px
    low, high = (factor * threshold for factor in DOUBT_RANGE)
    n_doubtful = n_disagreeing = 0
    for rows in group_instances(joined, of_view, shape_yx):
        box = joined.boxes_yxyx_px[rows[0]]
        y, x = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if not (y0 <= y < y1 and x0 <= x < x1):
            continue
        best = joined.scores[rows].max()
        n_doubtful += bool(low <= best < high)
        n_disagreeing += bool(best >= high and len(rows) == 1)
    return n_doubtful, n_disagreeing


def _look(
    work: TileWork, predictor: Predictor, index: int, reviewed: Iterable[Reviewed]
) -> Candidate | None:
    """Look at one tile; None if there is nothing to see in it, or it can't be read."""
    try:
        pixels = work.read(index)
    except ChunkError:
        return None
    if pixels is None:
        return None
    tile = work.plan[index]
    top, left = tile.read_yxyx_px[:2]
    y0, x0, y1, x1 = tile.core_yxyx_px
    core = (y0 - top, x0 - left, y1 - top, x1 - left)
    # objects of the surroundings are corrected elsewhere
    if block_contrast(pixels[:, core[0] : core[2], core[1] : core[3]]) < CONTRAST_FLOOR:
        return None
    threshold = predictor.score_threshold(work.config.detect)
    low = dataclasses.replace(
        work.config.detect, score_threshold=DOUBT_RANGE[0] * threshold, tta="off", tta_scales=()
    )
    shape_yx = (pixels.shape[1], pixels.shape[2])
    plain = predictor.detect(pixels, low)
    mirrored = _MIRROR.restore(predictor.detect(_MIRROR.apply(pixels), low), shape_yx)
    tokens = predictor.tokens(pixels[None])[0]
    rows, columns = (
        slice(math.floor(a * n / side), math.ceil(b * n / side))
        for a, b, n, side in zip(core[:2], core[2:], tokens.shape[1:], shape_yx, strict=True)
    )
    window = _whole(work.plan.core_image_yxyx(tile), work.image.shape_yx)
    return Candidate(
        work.image.name,
        window,
        *count_doubts(plain, mirrored, threshold, shape_yx, core),
        tokens[:, rows, columns].mean(axis=(1, 2)),
        _reviewed_share(window, reviewed),
    )


def _places(image: Image, normaliser: Normaliser, plan: TilePlan) -> list[int]:
    """Return the tiles to look at: all, or those at the busiest places of a large image."""
    if len(plan) <= MOST_TILES:
        return list(range(len(plan)))
    points = busy_points(image, normaliser)
    tiles = dict.fromkeys(plan.tiles_at(points).tolist())
    return list(tiles)[:MOST_TILES]


def _reviewed_share(window_yxyx_px: Box, reviewed: Iterable[Reviewed]) -> float:
    y0, x0, y1, x1 = window_yxyx_px
    done = np.zeros((y1 - y0, x1 - x0), bool)
    for region in reviewed:
        top, left, bottom, right = region.box_yxyx_px
        if top < y1 and left < x1 and bottom > y0 and right > x0:
            done |= region.mask(window_yxyx_px)
    return float(done.mean())


def _whole(box_yxyx_px: tuple[float, float, float, float], shape_yx: tuple[int, int]) -> Box:
    """Return the box of whole pixels about a box, within the image, of at least one pixel."""
    y0, x0 = (int(v) for v in box_yxyx_px[:2])
    y1 = min(max(math.ceil(box_yxyx_px[2]), y0 + 1), shape_yx[0])
    x1 = min(max(math.ceil(box_yxyx_px[3]), x0 + 1), shape_yx[1])
    return y0, x0, y1, x1
