"""Several classes from training to the table of instances."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dinomask.config import SegmentConfig, TileConfig
from dinomask.image import open_image
from dinomask.nets.catalogue import Manifest
from dinomask.nets.centermask import CenterMask
from dinomask.nets.features import ViTBackbone
from dinomask.nets.losses import Sampling
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment
from tests.nets.small import small_config, small_vit, targets_of

CENTRES = [(24, 26), (30, 80), (78, 30), (84, 78)]
DISC, SQUARE = 0, 1


def scene(classes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs and dark squares of about 26 px on grey: image and labels."""
    y, x = np.mgrid[:112, :112] + 0.5
    image, labels = np.full((112, 112), 0.5, np.float32), np.zeros((112, 112), np.int64)
    for i, ((cy, cx), kind) in enumerate(zip(CENTRES, classes, strict=True)):
        round_, square = np.hypot(y - cy, x - cx), np.maximum(abs(y - cy), abs(x - cx))
        inside = round_ < 14 if kind == DISC else square < 12.5
        image[inside], labels[inside] = (1.0 if kind == DISC else 0.0), i + 1
    return image, labels


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """A small model that has learned to tell the two apart."""
    torch.manual_seed(1)
    config = dataclasses.replace(small_config(2), semantic_classes=3, image_classes=2)
    model = CenterMask(config, ViTBackbone(small_vit())).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    kinds = [[DISC, SQUARE, SQUARE, DISC], [SQUARE, DISC, SQUARE, SQUARE], [DISC] * 4, [SQUARE] * 4]
    # nobody said of what class the mixed pictures are
    image_classes = [None, torch.tensor(-1), torch.tensor(0), torch.tensor(1)]
    scenes = [scene(kind) for kind in kinds]
    tiles = torch.from_numpy(np.stack([np.broadcast_to(i, (3, 112, 112)) for i, _ in scenes]))
    targets = [
        dataclasses.replace(targets_of(labels, kind), image_class=image_class)
        for (_, labels), kind, image_class in zip(scenes, kinds, image_classes, strict=True)
    ]
    for i in range(110):
        losses = model.losses(tiles, targets, Sampling(4, 6 if i > 50 else 0))
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    return Predictor(model.eval(), Manifest("m", config, score_threshold=0.3), torch.device("cpu"))


def test_the_class_arrives_in_the_table(predictor: Predictor) -> None:
    classes = [SQUARE, DISC, DISC, SQUARE]
    image, labels = scene(classes)
    tiles = TileConfig(tile_px=112, halo_px=0, seam_px=0)
    config = SegmentConfig(diameter_px=32.0, tiles=tiles)
    result = segment(open_image(image, axes="yx"), config=config, predictor=predictor)
    assert len(result.table) == 4
    assert result.labels_yx is not None
    for (cy, cx), kind in zip(CENTRES, classes, strict=True):
        row = result.table.set_index("id").loc[result.labels_yx[cy, cx]]
        assert row["class"] == kind
    found = result.labels_yx > 0
    assert np.sum(found & (labels > 0)) / np.sum(found | (labels > 0)) > 0.7


def test_pixels_and_image_are_told_too(predictor: Predictor) -> None:
    classes = [DISC, DISC, SQUARE, DISC]
    image, labels = scene(classes)
    tile = np.repeat(image[None], 3, axis=0)
    truth = np.array([0, *(kind + 1 for kind in classes)])[labels]
    assert np.mean(predictor.semantic(tile).argmax(0) == truth) > 0.95
    for kind in (DISC, SQUARE):
        mirrored = scene([kind] * 4)[0][:, ::-1]
        probabilities = predictor.image_class(np.repeat(mirrored[None], 3, axis=0))
        assert probabilities[kind] > 0.8
