"""Teaching: what is learned, kept, judged, and taken up again."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from dinomask.adapt import finetune as module
from dinomask.adapt.clock import WorkClock
from dinomask.adapt.finetune import finetune
from dinomask.adapt.gate import Figures, between, decide
from dinomask.adapt.learning import POOL, Learning
from dinomask.adapt.preflight import plan_teaching
from dinomask.adapt.reference import reference_images
from dinomask.adapt.teaching_notes import NOTES_FILE
from dinomask.config import SegmentConfig, TeachConfig
from dinomask.config.teach import FEW_OBJECTS
from dinomask.errors import CancelledError, OutputError, TeachError
from dinomask.nets.adapters import read_adapter_manifest, read_tensors
from dinomask.nets.zoo import load_model
from dinomask.run.predictor import Predictor
from dinomask.run.sizes import MIXED_SCALES
from dinomask.train.crops import collate
from tests.adapt.taught_scenes import taught_discs

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.adapt.progress import TeachProgress, TeachResult

QUICK = TeachConfig(
    mode="lora", minutes=60, steps=4, batch=2, crop_px=112, checks=2, replay=0.3, threads=1
)


@pytest.fixture(scope="module")
def few() -> list:
    return reference_images(112, 1)[:1]


@pytest.fixture(autouse=True)
def _few_references(monkeypatch: pytest.MonkeyPatch, few: list) -> None:
    monkeypatch.setattr(module, "reference_images", lambda: few)


@pytest.fixture
def known() -> list:
    return [taught_discs(seed=i, side_px=120, n=5) for i in range(2)]


def test_a_teaching_gives_an_adapter_that_loads(known: list, tmp_path: Path) -> None:
    seen: list[TeachProgress] = []
    result = finetune(
        known, tmp_path / "work", "discs", QUICK, seen.append, folder=tmp_path / "discs"
    )
    manifest = read_adapter_manifest(result.folder)
    after = result.figures["gate"]["after"]
    assert manifest.score_threshold == after["threshold"]
    assert manifest.diameter_px == pytest.approx(20, abs=1)
    assert manifest.provenance["steps"] == 4
    assert len(result.figures["losses"]) == 4
    assert len(result.figures["checks"]) == 2
    steps = [p.step for p in seen if p.phase == "train" and p.loss is not None]
    assert steps == [1, 2, 3, 4]
    assert {p.phase for p in seen} == {"prepare", "train", "gate"}
    assert all(0 <= p.fraction <= 1 for p in seen)
    predictor = Predictor.load(SegmentConfig(adapter=str(result.folder), threads=1))
    plain = load_model("tiny")[0].state_dict()
    learned = predictor.model.state_dict()
    assert any(not torch.equal(plain[k], learned[k]) for k in plain if "blocks.11" in k)
    assert all(torch.equal(plain[k], learned[k]) for k in plain if "blocks.0." in k)
    assert not (tmp_path / "work" / NOTES_FILE).exists()


def test_an_interrupted_teaching_goes_on_and_ends_the_same(known: list, tmp_path: Path) -> None:
    whole = finetune(known, tmp_path / "a", "whole", QUICK, folder=tmp_path / "whole")

    def stop_at_three(progress: TeachProgress) -> None:
        if progress.step == 3 and progress.loss is not None:
            raise CancelledError(expected="time", got="a click", remedy="Go on later.")

    with pytest.raises(CancelledError):
        finetune(known, tmp_path / "b", "parts", QUICK, stop_at_three, folder=tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    seen: list[TeachProgress] = []
    parts = finetune(known, tmp_path / "b", "parts", QUICK, seen.append, folder=tmp_path / "parts")
    assert [p.step for p in seen if p.loss is not None] == [4]
    a, b = (_tensors(result) for result in (whole, parts))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_folder_of_another_teaching_is_refused(known: list, tmp_path: Path) -> None:
    def stop(progress: TeachProgress) -> None:
        if progress.loss is not None:
            raise CancelledError(expected="time", got="a click", remedy="Go on later.")

    with pytest.raises(CancelledError):
        finetune(known, tmp_path / "w", "x", QUICK, stop, folder=tmp_path / "x")
    other = dataclasses.replace(QUICK, learning_rate=1e-4)
    with pytest.raises(OutputError, match="other ones"):
        finetune(known, tmp_path / "w", "x", other, folder=tmp_path / "x")


def test_an_adapter_is_not_replaced_unasked(known: list, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "adapter.json").write_text("{}")
    with pytest.raises(OutputError, match="on the shelf"):
        finetune(known, tmp_path / "w", "x", QUICK, folder=tmp_path / "x")


def test_nothing_to_learn_from_is_told_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(TeachError, match="no corrected or accepted object"):
        finetune([taught_discs(n=0)], tmp_path / "w", "x", QUICK, folder=tmp_path / "x")
    assert not (tmp_path / "w").exists()


def test_kept_crops_and_features_teach_like_computed_ones(known: list, tmp_path: Path) -> None:
    config = dataclasses.replace(QUICK, mode="heads", steps=POOL)
    learning = Learning.begin(known, tmp_path, config, 10)
    stepper = learning.stepper
    numbers = list(stepper.crop_numbers())
    batch = collate([stepper.data[i] for i in numbers])
    with torch.no_grad():
        computed = stepper.losses(batch, 0.0)
        learning._pooled(numbers)
        crops, maps = learning._pooled(numbers)
        kept = stepper.losses(collate(crops), 0.0, maps)
    for name, value in computed.items():
        assert float(kept[name]) == pytest.approx(float(value), rel=0.03, abs=0.01), name
    assert not any(p.requires_grad for p in learning.fitting.model.backbone.parameters())


def test_objects_of_very_different_sizes_are_taught_at_all_scales_they_are_looked_for(
    tmp_path: Path,
) -> None:
    alike = [taught_discs(seed=i, n=12, side_px=200) for i in range(2)]
    mixed = [
        dataclasses.replace(image, labels_yx=_with_small_ones(image.labels_yx)) for image in alike
    ]
    streams = [Learning.begin(known, tmp_path, QUICK, 24).stepper.data for known in (alike, mixed)]
    augments = [stream.config.augment for stream in streams]
    # what shall not be forgotten is shown at the scales at which it is known
    assert streams[0].generated_augment == streams[1].generated_augment == augments[0]
    assert augments[0].scale_log_max < math.log(max(MIXED_SCALES)) < augments[1].scale_log_max
    assert augments[1].scale_log_max > -math.log(min(MIXED_SCALES))


def _with_small_ones(labels_yx: np.ndarray) -> np.ndarray:
    """Add objects of 3 px at every free place of a grid."""
    labels = labels_yx.copy()
    for y in range(4, len(labels) - 8, 24):
        for x in range(4, labels.shape[1] - 8, 24):
            if not labels[y : y + 3, x : x + 3].any():
                labels[y : y + 3, x : x + 3] = labels.max() + 1
    return labels


def test_half_way_from_base_to_adapter(known: list, tmp_path: Path) -> None:
    base = load_model("tiny")[0].state_dict()
    name = "detector.scales"
    matrices = "lora.backbone.x.lora_B.default.weight"
    tensors = {f"weight.{name}": base[name] + 2.0, matrices: torch.ones(2, 2)}
    half = between("tiny", tensors, 0.5)
    assert torch.allclose(half[f"weight.{name}"], base[name] + 1.0)
    assert torch.equal(half[matrices], torch.full((2, 2), 0.5))
    assert between("tiny", tensors, 1.0) is tensors


@pytest.mark.parametrize(
    ("held", "reference", "promoted", "word"),
    [
        (0.6, 0.5, True, "better"),
        (0.6, 0.491, True, "better"),
        (0.6, 0.48, False, "forgotten"),
        (0.5, 0.6, False, "not better"),
    ],
)
def test_the_gate(held: float, reference: float, promoted: bool, word: str) -> None:
    before, after = Figures(0.5, 0.7, 0.5, 0.35), Figures(held, 0.8, reference, 0.35)
    said, reason = decide(before, after, 0.01)
    assert said is promoted
    assert word in reason


def test_preflight_says_what_is_missing() -> None:
    nothing = plan_teaching([taught_discs(n=0)], QUICK)
    assert nothing.problems
    few = plan_teaching([taught_discs(n=3)], dataclasses.replace(QUICK, mode="auto"))
    assert not few.problems
    assert few.mode == "heads"
    assert "too few" in few.warnings[0]
    labels = taught_discs(n=8).labels_yx
    no_ground = taught_discs(n=8, labels_yx=np.where(labels > 0, labels, -1))
    assert any("where there is no object" in w for w in plan_teaching([no_ground], QUICK).warnings)
    auto = dataclasses.replace(QUICK, mode="auto")
    assert [auto.chosen_mode(n) for n in (FEW_OBJECTS - 1, FEW_OBJECTS)] == ["heads", "lora"]
    many = plan_teaching([taught_discs(seed=i) for i in range(6)], QUICK)
    assert many.mode == "lora"
    assert many.n_objects + many.n_held_out == 48
    assert not many.problems


def test_a_pause_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def pause(_: TeachProgress) -> None:
        now[0] += 50

    clock = WorkClock(5.0, 60.0, pause)
    now[0] += 10
    clock.tell("train", 1)
    assert clock.worked_s == pytest.approx(15)
    assert clock.left_s == pytest.approx(45)


def test_reference_images_are_always_the_same() -> None:
    first, second = reference_images(96, 1), reference_images(96, 1)
    assert [i.name for i in first] == [i.name for i in second]
    assert all(
        np.array_equal(a.labels_yx, b.labels_yx) and np.array_equal(a.image_cyx, b.image_cyx)
        for a, b in zip(first, second, strict=True)
    )
    assert all(i.n_objects for i in first)


def _tensors(result: TeachResult) -> dict[str, torch.Tensor]:
    return read_tensors(result.folder, read_adapter_manifest(result.folder))
