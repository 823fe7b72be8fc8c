"""How far from base to taught the gate goes, and by what it judges."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import erosion

from dinomask.adapt.clock import WorkClock
from dinomask.adapt.gate import SHARES, Figures, Judge, farthest, judge_learned
from dinomask.adapt.reference import PER_IMAGE, reference_images, reference_scenes
from dinomask.adapt.trial import Scene, cut_scenes, score_scenes
from dinomask.config import DetectConfig, FitConfig, TeachConfig
from dinomask.instances import draw
from dinomask.nets.zoo import load_model
from dinomask.run.sizes import MIXED_SCALES
from tests.adapt.taught_scenes import taught_discs

BEFORE = Figures(0.5, 0.6, 0.7, 0.35)
BIAS = "weight.detector.centerness.bias"


@dataclasses.dataclass
class Formula:
    """Quality as a function of the way from base to taught, which one weight tells."""

    loss: float
    gain: float
    config: TeachConfig = dataclasses.field(default_factory=TeachConfig)
    classes: tuple[str, ...] = ()

    def _share(self, tensors: dict) -> float:
        base = load_model("tiny")[0].state_dict()[BIAS.removeprefix("weight.")]
        return float((tensors[BIAS] - base).mean())

    def kept(self, fit: FitConfig, tensors: dict) -> float:
        return BEFORE.reference_ap50 - self.loss * self._share(tensors)

    def figures(self, fit: FitConfig, tensors: dict, *, kept: float | None = None) -> Figures:
        held = BEFORE.held_out + self.gain * self._share(tensors)
        return Figures(held, held, self.kept(fit, tensors) if kept is None else kept, 0.35)


@settings(max_examples=8, deadline=None)
@given(loss=st.floats(0, 0.2), gain=st.floats(-0.1, 0.2))
def test_it_goes_as_far_as_little_is_forgotten(loss: float, gain: float) -> None:
    judge = Formula(loss, gain)
    whole = load_model("tiny")[0].state_dict()[BIAS.removeprefix("weight.")] + 1.0
    verdict = judge_learned(judge, BEFORE, {BIAS: whole}, FitConfig())  # type: ignore[arg-type]
    allowed = [s for s in SHARES if loss * s <= judge.config.max_forgetting - 1e-5]
    close = any(abs(loss * s - judge.config.max_forgetting) < 1e-5 for s in SHARES)
    if allowed and not close:
        assert verdict.share == max(allowed)
    if verdict.promoted:
        assert verdict.after.held_out > BEFORE.held_out
        assert BEFORE.reference_ap50 - verdict.after.reference_ap50 <= 0.01 + 1e-6
    elif not close:
        assert gain <= 1e-6 or not allowed


@pytest.mark.parametrize("n_passing", range(len(SHARES) + 1))
def test_the_farthest_share_is_found_in_four_looks(n_passing: int) -> None:
    allowed = SHARES[len(SHARES) - n_passing :]
    asked = []

    def passes(share: float) -> bool:
        asked.append(share)
        return share in allowed

    assert farthest(passes) == (max(allowed) if allowed else None)
    assert len(asked) <= 4


def test_every_reference_image_counts_about_the_same() -> None:
    images = reference_images()[:3]
    scenes = [reference_scenes([image], 32.0) for image in images]
    assert all(1 <= len(of_one) <= PER_IMAGE for of_one in scenes)
    again = reference_scenes(images, 32.0)
    together = [scene for of_one in scenes for scene in of_one]
    assert [s.labels_yx.tolist() for s in again] == [s.labels_yx.tolist() for s in together]


@pytest.mark.parametrize("scales", [(), MIXED_SCALES])
def test_each_is_judged_as_it_will_be_used(scales: tuple[float, ...]) -> None:
    # small discs among large ones, of which the median decides the scale
    images = [taught_discs(seed=0, n=8)]
    scenes = cut_scenes(images, 32.0, None)
    reference = cut_scenes(reference_images(112, 1)[:1], 32.0, None)
    config = TeachConfig(model="tiny")
    ticks: list[object] = []
    clock = WorkClock(0.0, 60.0, ticks.append)
    judge = Judge(scenes, reference, config, clock, scales=scales)
    base = judge.figures()
    assert len(ticks) == len(scenes) + len(reference)
    assert base.reference_ap50 == judge.kept()
    assert base == judge.figures(kept=base.reference_ap50)
    # an adapter that learned nothing looks at the scales that it was given, the base at one
    own = load_model("tiny")[0].state_dict()[BIAS.removeprefix("weight.")]
    same = judge.figures(FitConfig(mode="frozen"), {BIAS: own})
    assert same.reference_ap50 == base.reference_ap50
    assert (same == base) == (not scales), "other looks give other scores"


def test_outlines_a_pixel_beside_the_accepted_ones_cost_nothing() -> None:
    # what is accepted is drawn by the base, which no other model's outlines match to the pixel
    judge = Judge([], [], TeachConfig(), WorkClock(0, 60, None))
    base = judge.base()
    tiles = [scene.tile_cyx for scene in cut_scenes([taught_discs(seed=3, n=12)], 32.0, None)]
    scenes = []
    for tile in tiles:
        found = base.detect(tile, DetectConfig(score_threshold=0.35))
        outlined = draw(found, tile.shape[1:])
        scenes.append(Scene(tile, outlined * (erosion(outlined) == outlined)))
    scores = score_scenes(base, scenes)
    assert scores.n_objects > 5
    assert scores.quality(0.35) == pytest.approx(1.0)
    assert scores.at(0.35)[-1] < 0.5
