"""Maps of detector and mask head lie where they belong; a miss is traced to its step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch
from scipy import ndimage

from dinomask.config import DetectConfig, SegmentConfig
from dinomask.errors import SettingsError
from dinomask.explain.heads import TileHeads, heads_of, look_inside
from dinomask.explain.missed import Reason, why_missed
from dinomask.explain.proposed import proposals_of
from dinomask.explain.seen import SeenImage
from dinomask.image import open_image
from dinomask.run.segment import segment
from tests.contracts.members import MEMBERS
from tests.explain.seen_scenes import noise, seen_of
from tests.nets.small import small_model

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]

CONFIG = SegmentConfig(diameter_px=26.0, device="cpu", threads=1, precision="fp32")


@pytest.fixture(scope="module")
def nuclei(sample_nuclei: Path) -> Array:
    return np.ascontiguousarray(tifffile.imread(sample_nuclei)[:200, :200])


@pytest.fixture(scope="module")
def truth(sample_nuclei_labels: Path) -> Array:
    return np.ascontiguousarray(tifffile.imread(sample_nuclei_labels)[:200, :200])


@pytest.fixture(scope="module")
def heads(nuclei: Array) -> TileHeads:
    """The bundled model on a part of the nuclei that is one tile."""
    seen = SeenImage.of(open_image(nuclei), CONFIG)
    assert len(seen.plan) == 1
    return heads_of(seen, seen.plan[0])


def reasons_of(heads: TileHeads, points: Array, detect: DetectConfig) -> list[Reason]:
    proposals = proposals_of(heads, detect)
    return [why_missed(heads, (y, x), detect, proposals) for y, x in points.tolist()]


def labels_of(heads: TileHeads, detect: DetectConfig) -> Array:
    config = dataclasses.replace(CONFIG, detect=detect)
    result = segment(heads.seen.image, config=config, predictor=heads.seen.predictor)
    assert result.labels_yx is not None
    return result.labels_yx


@pytest.mark.parametrize("tile", [0, 3])
def test_maps_hold_each_location_where_it_is(tile: int) -> None:
    """A map drawn in the image has, at each location of the detector, the value predicted there."""
    seen = seen_of(small_model(), noise(150, 200), diameter_px=24.0)
    heads = heads_of(seen, seen.plan[tile])
    scores = heads.dense.scores()[0].amax(1).numpy()
    locations = heads.to_image(heads.dense.locations_yx_px.repeat(1, 2))[:, :2]
    for stride in (7.0, 14.0, 28.0):
        heat = heads.level("score", stride)
        assert heat.place.cell_yx_px[0] == pytest.approx(stride * 24 / 32)
        at = heads.dense.strides_px.numpy() == stride
        cells = heat.place.cells_at(locations[at])
        assert np.array_equal(heat.values_yx[cells[:, 0], cells[:, 1]], scores[at])
        assert np.unique(cells, axis=0).shape == cells.shape
    merged = heads.merged("score")
    coarse = heads.level("score", 28.0).values_yx.repeat(4, 0).repeat(4, 1)
    assert (merged.values_yx >= coarse).all()
    assert merged.values_yx.max() == scores.max()


def test_the_score_is_made_of_class_and_centerness() -> None:
    seen = seen_of(small_model(n_classes=2), noise(112, 112))
    heads = heads_of(seen, seen.plan[0])
    parts = [heads.level(kind, 7.0, 1).values_yx for kind in ("class", "centerness")]
    score = heads.level("score", 7.0, 1).values_yx
    assert np.allclose(score, np.sqrt(parts[0] * parts[1]), atol=1e-6)
    either = np.maximum(*(heads.level("class", 7.0, c).values_yx for c in (0, 1)))
    assert np.array_equal(heads.level("class", 7.0).values_yx, either)
    with pytest.raises(SettingsError, match="7, 14, 28"):
        heads.level("score", 8.0)
    with pytest.raises(SettingsError, match="class from 0 to 1"):
        heads.level("class", 7.0, 2)


def test_the_detector_answers_on_the_nuclei(heads: TileHeads, truth: Array) -> None:
    heat = heads.merged("class")
    drawn = heat.place.draw(heat.values_yx, (0, 0, *truth.shape))
    middle = ndimage.binary_erosion(truth > 0, iterations=5)
    outside = ~ndimage.binary_dilation(truth > 0, iterations=8)
    assert np.median(drawn[middle]) > 0.5 > 0.2 > np.median(drawn[outside])


def test_the_mask_heads_attention_is_what_it_multiplies_by(heads: TileHeads) -> None:
    box = (30.0, 40.0, 62.0, 70.0)
    heat = heads.mask_attention(box)
    model = heads.seen.predictor.model
    with torch.inference_mode():
        from dinomask.nets.masks import expand_boxes

        pooled = model.mask.pool_fine(heads.maps.fine, [expand_boxes(heads.to_model(box))])
        x = model.mask.convs(pooled)
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        expected = model.mask.attention(summary).sigmoid()[0, 0].numpy()
    assert np.allclose(heat.values_yx, expected, atol=1e-5)
    # over the box and a tenth more on each side
    (top, left), cell = heat.place.origin_yx_px, heat.place.cell_yx_px
    assert (top, left) == pytest.approx((30 - 3.2, 40 - 3.0), abs=1e-3)
    end = (top + cell[0] * len(expected), left + cell[1] * len(expected))
    assert end == pytest.approx((62 + 3.2, 70 + 3.0), abs=1e-3)


@pytest.mark.parametrize(
    "detect",
    [DetectConfig(), DetectConfig(score_threshold=0.7), DetectConfig(nms_iou=0.95)],
    ids=["default", "strict", "doubles"],
)
def test_what_is_said_agrees_with_the_segmentation(
    heads: TileHeads, truth: Array, detect: DetectConfig
) -> None:
    labels = labels_of(heads, detect)
    rng = np.random.default_rng(0)
    centres = np.array(ndimage.center_of_mass(truth > 0, truth, np.unique(truth)[1:]))
    anywhere = rng.uniform(0, 200, (12, 2))
    points = np.clip(np.concatenate([centres[:20] + 0.5, anywhere]), 0, 199.5)
    for (y, x), reason in zip(points, reasons_of(heads, points, detect), strict=True):
        assert (reason.cause == "found") == bool(labels[int(y), int(x)]), reason.sentence
        assert reason.sentence.endswith(".")
        if reason.cause == "score":
            assert reason.score <= reason.threshold
            assert reason.score == pytest.approx(
                np.sqrt(reason.class_score * reason.centerness), abs=1e-4
            )
        if reason.cause == "mask_iou":
            assert reason.score * reason.mask_iou < reason.threshold < reason.score


def test_every_step_can_be_named(heads: TileHeads, truth: Array, nuclei: Array) -> None:
    centres = np.array(ndimage.center_of_mass(truth > 0, truth, np.unique(truth)[1:])) + 0.5
    strict = DetectConfig(score_threshold=0.9)
    causes = {reason.cause for reason in reasons_of(heads, centres[:20], strict)}
    assert causes == {"score"}
    lenient = DetectConfig(score_threshold=0.6)
    causes = {reason.cause for reason in reasons_of(heads, centres, lenient)}
    assert {"found", "mask_iou"} <= causes
    background = ndimage.distance_transform_edt(truth == 0)
    at = np.unravel_index(background.argmax(), truth.shape)
    nothing = why_missed(heads, (at[0] + 0.5, at[1] + 0.5), DetectConfig())
    assert nothing.cause in ("nothing", "score")
    # boxes that are hardly suppressed leave the rims of doubles to be named
    loose = DetectConfig(nms_iou=0.9, score_threshold=0.1)
    labels = labels_of(heads, loose)
    rims = np.argwhere(ndimage.binary_dilation(labels > 0) & (labels == 0)) + 0.5
    reasons = reasons_of(heads, rims[::21], loose)
    found = next(reason for reason in reasons if reason.cause == "double")
    assert "dropped as a double of the one around" in found.sentence


def test_an_even_tile_is_said_to_be_blank() -> None:
    image = np.full((200, 400), 7, np.uint8)
    image[:, 300:] = np.random.default_rng(0).integers(0, 255, (200, 100))
    seen = seen_of(small_model(), image)
    heads = heads_of(seen, seen.tile_at((20.0, 20.0)))
    assert why_missed(heads, (20.0, 20.0), DetectConfig()).cause == "blank"


def test_one_look_gives_both_and_convolutions_have_maps_too() -> None:
    seen = seen_of(small_model(), noise(112, 112))
    attention, heads = look_inside(seen, seen.plan[0])
    alone = heads_of(seen, seen.plan[0])
    assert torch.allclose(heads.dense.class_logits, alone.dense.class_logits, atol=1e-5)
    assert attention.n_layers == 4
    member = next(m for m in MEMBERS if m.name == "resnet18")
    seen = seen_of(member.model(), noise(112, 112))
    assert heads_of(seen, seen.plan[0]).merged("class").values_yx.shape == (16, 16)
