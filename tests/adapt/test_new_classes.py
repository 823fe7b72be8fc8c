"""A class that the checkpoint doesn't know, learned from a few examples."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dinomask.adapt import finetune as module
from dinomask.adapt.finetune import finetune
from dinomask.adapt.preflight import plan_teaching
from dinomask.adapt.reference import reference_images
from dinomask.adapt.taught import TaughtImage, class_list
from dinomask.adapt.teaching_notes import teaching_key
from dinomask.adapt.trial import HALF, Scene, _count, cut_scenes, score_scenes
from dinomask.config import SegmentConfig, TeachConfig
from dinomask.errors import SettingsError
from dinomask.instances import Instances
from dinomask.nets.adapters import read_adapter_manifest
from dinomask.run.predictor import Predictor
from tests.adapt.taught_scenes import taught_discs

if TYPE_CHECKING:
    from pathlib import Path

QUICK = TeachConfig(
    mode="lora", minutes=60, steps=2, batch=2, crop_px=112, checks=1, threads=1,
    classes=("cell", "dividing"),
)  # fmt: skip


def two_kinds(seed: int, n: int = 6, side_px: int = 160) -> TaughtImage:
    """Discs, of which every second one is ring-shaped inside and of class 1."""
    image = taught_discs(seed=seed, n=n, side_px=side_px)
    pixels = image.image_cyx.astype(np.float32).copy()
    classes = np.zeros(image.labels_yx.max() + 1, np.int64)
    for label in range(2, len(classes), 2):
        rows, cols = np.nonzero(image.labels_yx == label)
        inner = (rows - rows.mean()) ** 2 + (cols - cols.mean()) ** 2 < 6**2
        pixels[0, rows[inner], cols[inner]] *= 0.3
        classes[label] = 1
    return dataclasses.replace(image, image_cyx=pixels, classes=classes)


@pytest.fixture(autouse=True)
def _few_references(monkeypatch: pytest.MonkeyPatch) -> None:
    few = reference_images(112, 1)[:1]
    monkeypatch.setattr(module, "reference_images", lambda: few)


def test_an_adapter_brings_the_new_class_with_it(tmp_path: Path) -> None:
    taught = [two_kinds(seed, side_px=120, n=5) for seed in range(2)]
    result = finetune(taught, tmp_path / "work", "two", QUICK, folder=tmp_path / "two")
    assert read_adapter_manifest(result.folder).class_names == ("cell", "dividing")
    predictor = Predictor.load(SegmentConfig(adapter=str(result.folder), threads=1))
    assert predictor.model.config.n_classes == 2


def test_classes_without_names_are_numbered_and_old_ones_keep_their_place() -> None:
    taught = [two_kinds(0)]
    assert class_list(taught, (), (), 1) == ("class 0", "class 1")
    assert class_list(taught, (), ("cell",), 1) == ("cell", "class 1")
    assert class_list(taught, ("cell", "dividing", "dead"), ("cell",), 1)[2] == "dead"
    assert class_list([taught_discs()], (), (), 1) == ()


def test_wrong_classes_are_refused_before_anything_is_learned(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Name each class once"):
        dataclasses.replace(QUICK, classes=("cell", "cell"))


def test_another_class_is_another_teaching() -> None:
    image = two_kinds(0)
    other = dataclasses.replace(image, classes=np.roll(image.classes, 1))
    assert teaching_key([image], QUICK, "x") != teaching_key([other], QUICK, "x")


def test_preflight_warns_of_a_class_with_few_examples() -> None:
    warned = plan_teaching([two_kinds(0)], QUICK).warnings
    assert any("only 3 of “dividing”" in warning for warning in warned)


def test_hits_count_within_their_class() -> None:
    labels = np.zeros((40, 80), np.int32)
    labels[10:30, 10:30], labels[10:30, 50:70] = 1, 2
    boxes = np.array([[10, 10, 30, 30], [10, 50, 30, 70]], np.float32)
    masks = np.full((2, 28, 28), 255, np.uint8)
    found = Instances(boxes, np.array([0.9, 0.8], np.float32), np.array([0, 1], np.int32), masks)
    tile = np.zeros((3, 40, 80), np.float32)
    right = _count(Scene(tile, labels, np.array([0, 0, 1])), found)
    swapped = _count(Scene(tile, labels, np.array([0, 1, 0])), found)
    plain = _count(Scene(tile, labels), dataclasses.replace(found, classes=found.classes * 0))
    assert right[HALF].tolist() == plain[HALF].tolist() == [2, 0, 0]
    assert swapped[HALF].tolist() == [0, 2, 2]


@pytest.mark.slow
def test_a_new_class_is_learned_and_the_old_one_kept(tmp_path: Path) -> None:
    config = dataclasses.replace(QUICK, steps=150, batch=4, crop_px=168, checks=2, replay=0.2)
    taught = [two_kinds(seed) for seed in range(5)]
    result = finetune(taught, tmp_path / "work", "two", config, folder=tmp_path / "two")
    predictor = Predictor.load(SegmentConfig(adapter=str(result.folder), threads=1))
    scenes = cut_scenes([two_kinds(seed) for seed in (50, 51)], 32.0, 20.0)
    assert score_scenes(predictor, scenes).at(0.35)[HALF] > 0.8
