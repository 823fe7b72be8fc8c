"""Point and click: what the model itself proposes at a point or in a box.

The slow part, backbone and pyramid of a tile, is done once a tile and kept; the
quick part, boxes at the point and their masks, is done at each click. The tiles
are those of a segmentation, so that the model sees the same pixels.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import ndimage

from dinomask.adapt.candidates import Candidates, candidates_at, distinct_sizes
from dinomask.adapt.tile_features import FeatureMemory
from dinomask.config import TileConfig
from dinomask.errors import InputError
from dinomask.instances import paste_probability
from dinomask.tiles.plan import plan_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dinomask.adapt.events import Piece
    from dinomask.adapt.tile_features import TileFeatures
    from dinomask.image.normalise import Normaliser
    from dinomask.image.source import Image
    from dinomask.instances import Array
    from dinomask.run.predictor import Predictor
    from dinomask.tiles.plan import Box, TilePlan

    ReadLabels = Callable[[Box], Array]
    """Reads the labels of a window of the image, in image pixels."""

MEMORY_MB = 256.0
"""Features that are kept, of about a dozen tiles."""

NEXT_SCALE = 1.4
"""Ratio of the areas of proposals that differ clearly in size."""

REFUTED_POWER = 4
"""How strongly a proposal suffers that looks like an object the user deleted: its trust is
multiplied by (1 − IoU) to this power."""

SCORE_POWER = 0.5
"""The detector's score counts less than in detection: on a missed cell it was wrong."""

PROBABILITY = 0.5
"""From this probability on a pixel belongs to the object, as in rendering."""


@dataclasses.dataclass(frozen=True)
class Proposal:
    """An object that the model proposes, in image pixels.

    Attributes
    ----------
    mask_yx : bool, tight around the object
    corner_yx_px : where the mask begins in the image
    score : detection · MaskIoU, in [0, 1]; low where the model sees hardly anything
    box_yxyx_px : the box that the mask was drawn in
    class_id : in [0, C)
    rank : 0 for the best, then the next sizes
    n_ranks : how many there are
    """

    mask_yx: Array
    corner_yx_px: tuple[int, int]
    score: float
    box_yxyx_px: tuple[float, float, float, float]
    class_id: int = 0
    rank: int = 0
    n_ranks: int = 1

    @property
    def window_yxyx_px(self) -> Box:
        """What the mask covers, half-open."""
        (y, x), (height, width) = self.corner_yx_px, self.mask_yx.shape
        return y, x, y + height, x + width


class Prompter:
    """Answers clicks on one image with the model's own proposals.

    Safe in threads: `prepare` and the proposals take turns, `ready` never waits.

    Parameters
    ----------
    predictor : the model
    image : which the clicks are on
    normaliser : fitted on this image
    scale : model pixels an image pixel, as the segmentation used
    tiles : how the image is cut; as the segmentation did
    memory_mb : of features that are kept; at least one tile's are
    """

    def __init__(
        self,
        predictor: Predictor,
        image: Image,
        normaliser: Normaliser,
        scale: float,
        tiles: TileConfig | None = None,
        memory_mb: float = MEMORY_MB,
    ) -> None:
        self.predictor = predictor
        self.image = image
        self.plan: TilePlan = plan_tiles(image.shape_yx, scale, tiles or TileConfig())
        self._memory = FeatureMemory(predictor, image, normaliser, self.plan, memory_mb * 2**20)

    @property
    def memory_mb(self) -> float:
        """Size of the features that are kept."""
        return self._memory.n_bytes / 2**20

    def ready(self, point_yx_px: tuple[float, float]) -> bool:
        """Tell whether a proposal at a point of the image comes at once."""
        return self._memory.holds(point_yx_px)

    def prepare(self, point_yx_px: tuple[float, float]) -> None:
        """Do the slow part for the tile of a point, if it is not done.

        Raises
        ------
        InputError
            If the image can't be read there, or the point lies outside.
        """
        self._features(point_yx_px)

    def propose(
        self,
        point_yx_px: tuple[float, float],
        rank: int = 0,
        labels: ReadLabels | None = None,
        refuted: Sequence[Piece] = (),
    ) -> Proposal:
        """Propose the object at a point of the image.

        Boxes of all locations and levels that hold the point are ranked by class
        score, centerness and how central the point is in them; the masks of the
        best ones decide: they should hold the point, leave other objects alone,
        look right to MaskIoU and not be what the user has deleted.

        Parameters
        ----------
        point_yx_px : in image pixels; a pixel's middle lies at half coordinates
        rank : 0 for the best, 1 for the next of clearly another size, and so on,
            from the start again after the last
        labels : reads the objects that are there already; their pixels are cut
            away. None takes no heed of them
        refuted : objects that the user deleted

        Raises
        ------
        InputError
            If there is nothing that could be an object, or the point lies
            outside the image.
        """
        features = self._features(point_yx_px)
        scale = self.plan.scale
        at = [v * scale - o for v, o in zip(point_yx_px, features.origin_yx_px, strict=True)]
        target_px = self.predictor.target_diameter_px
        found = candidates_at(features.dense, (at[0], at[1]), target_px)
        drawn = [
            (trust * (1 - _likeness(proposal, refuted)) ** REFUTED_POWER, proposal)
            for trust, proposal in self._draw(features, found, point_yx_px, labels)
        ]
        drawn.sort(key=lambda pair: -pair[0])
        areas = [int(np.count_nonzero(proposal.mask_yx)) for _, proposal in drawn]
        sizes = distinct_sizes(areas, NEXT_SCALE)
        if not sizes:
            raise _nothing(point_yx_px)
        chosen = drawn[sizes[rank % len(sizes)]][1]
        return dataclasses.replace(chosen, rank=rank % len(sizes), n_ranks=len(sizes))

    def propose_box(
        self, box_yxyx_px: tuple[float, float, float, float], labels: ReadLabels | None = None
    ) -> Proposal:
        """Propose the object in a box, in image pixels.

        Parameters
        ----------
        box_yxyx_px : around the object
        labels : as for `propose`

        Raises
        ------
        InputError
            If the box has no area in the image or holds nothing that could be an object.
        """
        y0, x0, y1, x1 = box_yxyx_px
        middle = ((y0 + y1) / 2, (x0 + x1) / 2)
        if not (y1 > y0 and x1 > x0):
            raise _nothing(box_yxyx_px)
        features = self._features(middle)
        origin = np.tile(features.origin_yx_px, 2)
        device = features.dense.class_logits.device
        box = torch.tensor(
            np.array([box_yxyx_px]) * self.plan.scale - origin, dtype=torch.float32, device=device
        )
        one = box.new_ones(1)
        found = Candidates(box, one, one, torch.zeros(1, dtype=torch.long, device=device))
        drawn = self._draw(features, found, middle, labels)
        if not drawn:
            raise _nothing(box_yxyx_px)
        return drawn[0][1]

    def _features(self, point_yx_px: tuple[float, float]) -> TileFeatures:
        _require_inside(point_yx_px, self.plan.shape_yx)
        return self._memory.at(point_yx_px)

    @torch.inference_mode()
    def _draw(
        self,
        features: TileFeatures,
        found: Candidates,
        point_yx_px: tuple[float, float],
        labels: ReadLabels | None,
    ) -> list[tuple[float, Proposal]]:
        """Draw the masks of candidates, with how well each answers the click."""
        with self._memory.lock, self.predictor.autocast():
            rois, logits, iou = self.predictor.network.draw(features.maps, [found.boxes_yxyx_px])
        quality = iou.gather(1, found.classes[:, None])[:, 0].clamp(0, 1)
        scores = (found.scores * quality).float().cpu().numpy()
        trust = (found.scores**SCORE_POWER * quality * found.fits).float().cpu().numpy().tolist()
        origin = np.tile(features.origin_yx_px, 2)
        rois_px = (rois.float().cpu().numpy() + origin) / self.plan.scale
        boxes_px = (found.boxes_yxyx_px.float().cpu().numpy() + origin) / self.plan.scale
        masks = np.round(logits.float().sigmoid().cpu().numpy() * 255).astype(np.uint8)
        drawn = []
        for i in range(len(found)):
            shape = self._shape(masks[i], rois_px[i], point_yx_px, labels)
            if shape is not None:
                mask_yx, corner, worth = shape
                y0, x0, y1, x1 = boxes_px[i].tolist()
                box, class_id = (y0, x0, y1, x1), int(found.classes[i])
                proposal = Proposal(mask_yx, corner, float(scores[i]), box, class_id)
                drawn.append((trust[i] * worth, proposal))
        return drawn

    def _shape(
        self,
        mask: Array,
        roi_yxyx_px: Array,
        point_yx_px: tuple[float, float],
        labels: ReadLabels | None,
    ) -> tuple[Array, tuple[int, int], float] | None:
        """Draw one mask at the image's pixels; None if nothing of it is left.

        The third is its worth: the share that no other object holds, halved
        twice where the clicked point is not on it.
        """
        probability, (top, left) = paste_probability(mask, roi_yxyx_px, (0, 0, *self.plan.shape_yx))
        mask_yx = probability >= PROBABILITY
        n_all = np.count_nonzero(mask_yx)
        if not n_all:
            return None
        if labels is not None:
            height, width = mask_yx.shape
            mask_yx &= labels((top, left, top + height, left + width)) == 0
        mask_yx, holds = _piece_at(mask_yx, int(point_yx_px[0]) - top, int(point_yx_px[1]) - left)
        share = float(np.count_nonzero(mask_yx) / n_all)
        if not share:
            return None
        rows, columns = (np.flatnonzero(mask_yx.any(axis=axis)) for axis in (1, 0))
        tight = mask_yx[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        corner = (top + int(rows[0]), left + int(columns[0]))
        return np.ascontiguousarray(tight), corner, share * (1.0 if holds else 0.25)


def _piece_at(mask_yx: Array, y: int, x: int) -> tuple[Array, bool]:
    """Keep the connected piece that holds a pixel, else the largest; tell which of the two."""
    pieces, n = ndimage.label(mask_yx)
    if not n:
        return mask_yx, False
    inside = 0 <= y < mask_yx.shape[0] and 0 <= x < mask_yx.shape[1]
    here = int(pieces[y, x]) if inside else 0
    kept: Any = here or int(np.bincount(pieces.ravel())[1:].argmax()) + 1
    return pieces == kept, here > 0


def _likeness(proposal: Proposal, pieces: Sequence[Piece]) -> float:
    """Return the largest IoU with any of the pieces."""
    area, most = int(np.count_nonzero(proposal.mask_yx)), 0.0
    for piece in pieces:
        shared = int(np.count_nonzero(piece.within(proposal.window_yxyx_px) & proposal.mask_yx))
        most = max(most, shared / (area + piece.area_px - shared))
    return most


def _require_inside(point_yx_px: tuple[float, float], shape_yx: tuple[int, int]) -> None:
    if not all(0 <= v < n for v, n in zip(point_yx_px, shape_yx, strict=True)):
        raise InputError(
            expected=f"a point within {shape_yx[0]} x {shape_yx[1]} pixels",
            got=f"y {point_yx_px[0]:g}, x {point_yx_px[1]:g}",
            remedy="Click on the image.",
        )


def _nothing(place_px: tuple[float, ...]) -> InputError:
    """Return the error for a point or a box without an object."""
    kind = "the point" if len(place_px) == 2 else "the box"
    return InputError(
        expected="something that could be an object",
        got=f"nothing at {kind} {', '.join(f'{v:.0f}' for v in place_px)}",
        remedy="Drag a box around it, or paint it.",
    )
