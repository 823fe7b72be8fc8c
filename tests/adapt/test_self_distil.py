"""The base model's own findings, learned where nobody looked."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dinomask.adapt import finetune as module
from dinomask.adapt.finetune import finetune
from dinomask.adapt.reference import reference_images
from dinomask.adapt.self_distil import add_confident
from dinomask.adapt.taught import limit_objects
from dinomask.config import SegmentConfig, TeachConfig
from dinomask.instances import REFUTED, UNSUPERVISED
from dinomask.measure.matching import match
from dinomask.run.predictor import Predictor
from tests.adapt.taught_scenes import taught_discs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(SegmentConfig(threads=1))


@pytest.fixture(scope="module")
def whole():
    return taught_discs(seed=3, n=14, side_px=260)


def test_what_it_is_sure_of_fills_what_nobody_looked_at(predictor: Predictor, whole) -> None:
    (known,) = limit_objects([whole], 4)
    refuted = known.labels_yx.copy()
    # a place where the user deleted what the model finds
    ids = np.unique(whole.labels_yx[(whole.labels_yx > 0) & (refuted == UNSUPERVISED)])
    refuted[(whole.labels_yx == ids[0]) & (refuted == UNSUPERVISED)] = REFUTED
    image = dataclasses.replace(known, labels_yx=refuted).annotated()
    centres, before = image.centres_yx.copy(), image.labels_yx.copy()
    ticks: list[int] = []
    n = add_confident([image], predictor, 0.4, lambda: ticks.append(1))
    after = image.labels_yx
    assert n >= 4
    assert len(ticks) >= 1
    looked_at = before != UNSUPERVISED
    np.testing.assert_array_equal(after[looked_at], before[looked_at])
    np.testing.assert_array_equal(image.centres_yx, centres)
    added = np.where(after > before.max(), after, 0)
    assert len(np.unique(added)) - 1 == n
    hits = match(np.where(looked_at, 0, whole.labels_yx), added).counts(0.5)
    assert hits.tp == n, "they are real objects"


def test_what_is_known_as_a_whole_or_not_sure_enough_stays(predictor: Predictor, whole) -> None:
    image = whole.annotated()
    assert add_confident([image], predictor, 0.4) == 0
    (known,) = limit_objects([whole], 4)
    image = known.annotated()
    before = image.labels_yx.copy()
    assert add_confident([image], predictor, 0.999) == 0
    np.testing.assert_array_equal(image.labels_yx, before)


def test_a_teaching_says_how_many_it_learned_along(
    whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = reference_images(112, 1)[:1]
    monkeypatch.setattr(module, "reference_images", lambda: few)
    config = TeachConfig(steps=1, minutes=1.0, mode="heads", checks=1, threads=1, held_out=0.3)
    known = limit_objects([whole, taught_discs(seed=4, n=14, side_px=260)], 12)
    learned = [
        finetune(known, tmp_path / f"w{score}", "a", with_score, folder=tmp_path / f"a{score}")
        for score in (0.4, 1.0)
        for with_score in [dataclasses.replace(config, confident_score=score)]
    ]
    n_learned = [result.figures["confident_objects"] for result in learned]
    assert n_learned[0] > 0
    assert n_learned[1] == 0
