"""Whether tiles were large enough for the objects, and what to do if not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dinomask.config.model import PATCH_PX
from dinomask.image.doctor import Finding

if TYPE_CHECKING:
    from dinomask.config import TileConfig
    from dinomask.tiles.plan import TilePlan
    from dinomask.tiles.stitched import Stitched

LARGEST_TILE_PX = 1022
"""Beyond this tile a larger diameter, so a smaller scale, serves better than a larger tile."""


def halo_for(largest_px: float) -> int:
    """Return the halo in which objects of this size are seen whole by the tile that owns them.

    Half of the object lies outside the core at most, and the outermost two
    patches know little of what is around them.

    Parameters
    ----------
    largest_px : longer side of the largest object, in model pixels
    """
    return math.ceil(largest_px / 2) + 2 * PATCH_PX


def advise(config: TileConfig, halo_px: int) -> str:
    """Say how to get a halo: with this tile, with a larger one, or by a larger diameter."""
    if halo_px <= config.tile_px // 2 - PATCH_PX:
        return f"Enlarge the halo to {halo_px} px (--halo {halo_px})."
    # a core of at least a third of the tile, or most of the work is done twice
    tile_px = PATCH_PX * math.ceil(3 * halo_px / PATCH_PX)
    if tile_px <= LARGEST_TILE_PX:
        return (
            f"Enlarge the halo to {halo_px} px and the tile to {tile_px} px "
            f"(--halo {halo_px} --tile {tile_px}), or give a larger diameter."
        )
    return "Give a larger diameter (--diameter), so that objects take less of a tile."


def cut_findings(stitched: Stitched, plan: TilePlan) -> list[Finding]:
    """Say how many objects no tile saw whole; empty where there are none."""
    n_cut, n_merged = stitched.n_cut_objects, stitched.n_merged_objects
    if not n_cut:
        return []
    boxes = stitched.instances.boxes_yxyx_px[stitched.is_cut]
    largest_px = float((boxes[:, 2:] - boxes[:, :2]).max()) * plan.scale
    count = f"{n_cut} objects are" if n_cut > 1 else "1 object is"
    what = f"{count} too large for the halo of {plan.config.halo_px} px to be seen whole"
    joined = f", {n_merged} put together from the parts that tiles saw" if n_merged else ""
    return [Finding("warning", what + joined, advise(plan.config, halo_for(largest_px)))]
