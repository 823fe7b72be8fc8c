"""The figures of a seam report: what two segmentations of one crop have in common."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.image.doctor import Finding
from dinomask.measure.matching import match
from dinomask.tiles.advice import advise, halo_for
from dinomask.tiles.render import render_window

if TYPE_CHECKING:
    from dinomask.instances import Array
    from dinomask.tiles.plan import Box, TilePlan
    from dinomask.tiles.stitched import Stitched

MATCH_IOU = 0.5
"""An object found both ways is one if its two masks have at least this IoU."""

GOOD_SHARE, GOOD_IOU = 0.95, 0.85
"""Seams are fine if this share of the objects by them is found both ways, with this mean IoU."""


@dataclasses.dataclass(frozen=True)
class SeamReport:
    """A crop segmented tile by tile, compared with the same crop in one piece.

    Attributes
    ----------
    crop_yxyx_px : where, in image pixels
    diameter_px : that it was segmented at
    n_tiles : tiles that the crop shows
    n_untiled, n_tiled : objects found in one piece, and tile by tile
    n_matched, mean_iou : those found both ways, and their mean IoU
    n_by_seams, n_by_seams_matched, mean_iou_by_seams : of the objects of the
        one piece that lie on a border between tiles or within the seam margin
    n_cut, n_merged : tiled objects that no tile saw whole; those joined of parts
    largest_px : longer side of the largest object of the one piece, in model pixels
    halo_px : of the settings
    finding : the conclusion, with what to do
    """

    crop_yxyx_px: Box
    diameter_px: float
    n_tiles: int
    n_untiled: int
    n_tiled: int
    n_matched: int
    mean_iou: float
    n_by_seams: int
    n_by_seams_matched: int
    mean_iou_by_seams: float
    n_cut: int
    n_merged: int
    largest_px: float
    halo_px: int
    finding: Finding

    @property
    def count_difference(self) -> int:
        """How many objects more (or fewer, below 0) tiles find."""
        return self.n_tiled - self.n_untiled

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a json report."""
        return dataclasses.asdict(self) | {"count_difference": self.count_difference}


def compare(
    plan: TilePlan,
    window: Box,
    diameter_px: float,
    tiled: Stitched,
    untiled: Stitched,
    n_tiles: int,
) -> SeamReport:
    """Compare a crop segmented tile by tile with the same crop in one piece.

    Parameters
    ----------
    plan : the tiles of the image
    window : the crop, in image pixels
    diameter_px : that it was segmented at
    tiled, untiled : instances of the crop and around it
    n_tiles : tiles that the crop shows
    """
    reference, labels = render_window(untiled, window), render_window(tiled, window)
    matching = match(reference, labels)
    pairs = matching.matched(MATCH_IOU)
    iou = matching.iou[pairs]
    by_seams = np.isin(matching.reference_ids, _ids_by_seams(plan, window, reference))
    of_seams = by_seams[matching.reference_index[pairs]]
    shown = untiled.instances.boxes_yxyx_px[matching.reference_ids - 1].astype(np.float64)
    here = np.isin(tiled.ids, matching.prediction_ids)
    part = tiled.take(here)
    report = SeamReport(
        crop_yxyx_px=window,
        diameter_px=diameter_px,
        n_tiles=n_tiles,
        n_untiled=len(matching.reference_ids),
        n_tiled=len(matching.prediction_ids),
        n_matched=len(pairs),
        mean_iou=_mean(iou),
        n_by_seams=int(by_seams.sum()),
        n_by_seams_matched=int(of_seams.sum()),
        mean_iou_by_seams=_mean(iou[of_seams]),
        n_cut=part.n_cut_objects,
        n_merged=part.n_merged_objects,
        largest_px=round(float((shown[:, 2:] - shown[:, :2]).max(initial=0)) * plan.scale, 1),
        halo_px=plan.config.halo_px,
        finding=Finding("info", "", ""),
    )
    return dataclasses.replace(report, finding=_conclusion(plan, report))


def _mean(values: Array) -> float:
    return round(float(values.mean()), 4) if len(values) else 0.0


def _ids_by_seams(plan: TilePlan, window: Box, labels_yx: Array) -> Array:
    """Ids within the seam margin of a border between tiles; borders of the image are none."""
    margin = max(1.0, plan.config.seam_px / plan.scale)
    top, left, bottom, right = window
    found = [np.zeros(0, labels_yx.dtype)]
    cores = plan.cores_image_yxyx(np.array(list(plan.tiles_touching(window)), np.int64))
    for axis, start, end in ((0, top, bottom), (1, left, right)):
        turned = labels_yx if axis == 0 else labels_yx.T
        for seam in np.unique(cores[:, axis]):
            first, last = math.floor(seam - margin) - start, math.ceil(seam + margin) - start
            if seam > 0 and last > 0 and first < end - start:
                found.append(np.unique(turned[max(first, 0) : last]))
    ids = np.unique(np.concatenate(found))
    return ids[ids > 0]


def _conclusion(plan: TilePlan, report: SeamReport) -> Finding:
    if not report.n_untiled and not report.n_tiled:
        what = "nothing was found in the crop, so nothing can be said of seams"
        return Finding("warning", what, "Give the objects' size (--diameter PX), or a larger crop.")
    share = report.n_by_seams_matched / max(report.n_by_seams, 1)
    good = not report.n_by_seams or (share >= GOOD_SHARE and report.mean_iou_by_seams >= GOOD_IOU)
    what = (
        f"{report.n_by_seams_matched} of {report.n_by_seams} objects by the tiles' borders are "
        f"the same without tiles, mean IoU {report.mean_iou_by_seams:.2f}"
    )
    if report.n_cut:
        what += f"; {report.n_cut} too large for the halo of {report.halo_px} px"
    if good and not report.n_cut:
        return Finding("info", what, "The halo is large enough.")
    wanted = max(halo_for(report.largest_px), math.ceil(1.5 * report.halo_px))
    return Finding("warning", what, advise(plan.config, wanted))
