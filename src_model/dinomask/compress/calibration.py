"""What a network is quantised by and judged by: the user's tiles, and their objects."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from dinomask.config import DetectConfig
from dinomask.instances import draw
from dinomask.measure.matching import mean_scores, score_image
from dinomask.nets.backends.graphs import POOLED, POOLED_DETAIL, TILES
from dinomask.nets.masks import expand_boxes, pool_rois
from dinomask.nets.network import ROI_CHUNK
from dinomask.nets.proposals import propose
from dinomask.nets.pyramid import DETAIL_STRIDE_PX, FINE_STRIDE_PX
from dinomask.run.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.instances import Array
    from dinomask.nets.network import Network

JUDGED = 8
"""Tiles on which agreement is measured; no method learns from them."""

ROIS = 64
"""Objects of a tile that calibrate the mask graph."""

MOST = 100
"""Objects of a tile, the surest ones, on which agreement is measured."""


@dataclasses.dataclass(frozen=True)
class Judge:
    """Compares what networks find in tiles of the user's images with what one of them found.

    Attributes
    ----------
    tiles : shape (`JUDGED`, 3, H, W), float32
    found : label image of each of them, by the network that is compared with
    """

    tiles: Array
    found: list[Array]
    _predictor: Predictor

    @staticmethod
    @torch.inference_mode()
    def of(subject: Subject, work: Work) -> Judge:
        """Draw tiles that methods don't learn from, and find the objects in them.

        Raises
        ------
        DataError
            If there are no images.
        """
        predictor = Predictor(subject.model, subject.manifest, torch.device("cpu"))
        material = work.require_material()
        tiles = material.tiles(predictor, JUDGED, work.config.seed + 1).numpy()
        return Judge(tiles, [_labels_of(predictor, tile) for tile in tiles], predictor)

    @torch.inference_mode()
    def agreement(self, network: Network) -> float:
        """Return AP@0.5 of a network's objects against those found before."""
        other = dataclasses.replace(self._predictor, network=network)
        scores = [
            score_image(labels, _labels_of(other, tile), taus=(0.5,))
            for labels, tile in zip(self.found, self.tiles, strict=True)
        ]
        return float(mean_scores(scores).ap[0])

    @staticmethod
    def tell(agreement: float, least: float, work: Work) -> None:
        """Note how well the network agrees; warn if that is too little."""
        text = f"AP@0.5 of its objects against those of the model before: {agreement:.3f}"
        if agreement < least:
            work.warn(f"{text}, below {least:g}: look at its results before you rely on it")
        else:
            work.note(text)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Inputs of the two graphs, as the float network sees them, and who judges the outcome.

    Attributes
    ----------
    tiles : shape (n, 3, H, W), float32
    pooled : inputs of the mask graph, an entry a tile with objects
    judge : compares with the float network, on further tiles
    """

    tiles: Array
    pooled: list[dict[str, Array]]
    judge: Judge

    @staticmethod
    @torch.inference_mode()
    def of(subject: Subject, work: Work) -> Calibration:
        """Draw tiles of the user's images and look at them with the float network.

        Raises
        ------
        DataError
            If there are no images.
        """
        predictor = Predictor(subject.model, subject.manifest, torch.device("cpu"))
        n = work.config.tiles
        tiles = work.require_material().tiles(predictor, n, work.config.seed)
        pooled = list(_pooled(subject.model, tiles))
        if not pooled:
            work.warn(
                "the model finds no object in the images it is calibrated on: they are far from"
                " what it knows. Masks are calibrated on whatever looks most like an object;"
                " give images like those to segment"
            )
            pooled = list(_pooled(subject.model, tiles, floor=0.0))
        return Calibration(tiles.numpy(), pooled, Judge.of(subject, work))

    def look_inputs(self) -> Iterator[dict[str, Array]]:
        """Yield the inputs of the first graph."""
        yield from ({TILES: tile[None]} for tile in self.tiles)


def _pooled(
    network: Network, tiles: torch.Tensor, floor: float | None = None
) -> Iterator[dict[str, Array]]:
    config, side = DetectConfig(max_instances=ROIS), network.config.mask_px
    for tile in tiles:
        maps, dense = network.look(tile[None])
        boxes, _, _ = propose(dense, config, 0.2 if floor is None else floor)[0]
        if floor is not None:
            boxes = boxes[:ROI_CHUNK]
        if len(boxes):
            rois = [expand_boxes(boxes)]
            yield {
                POOLED: pool_rois(maps.fine, rois, FINE_STRIDE_PX, side // 2).numpy(),
                POOLED_DETAIL: pool_rois(maps.detail, rois, DETAIL_STRIDE_PX, side).numpy(),
            }


def _labels_of(predictor: Predictor, tile_cyx: Array) -> Array:
    found = predictor.detect(tile_cyx, DetectConfig(max_instances=MOST))
    return draw(found, tile_cyx.shape[1:])
