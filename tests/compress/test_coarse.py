"""Fewer pixels for each object: less work, and later methods see objects so, too."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dinomask.compress.coarse import COARSE
from dinomask.compress.material import Material
from dinomask.compress.student import new_student
from dinomask.compress.subject import Subject
from dinomask.compress.work import Work
from dinomask.config import CoarseSettings, CompressConfig, DistilSettings, SegmentConfig
from dinomask.errors import SettingsError
from dinomask.image import open_image
from dinomask.image.resample import PAD_VALUE
from dinomask.nets.zoo import load_model, save_checkpoint
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment
from tests.compress.small import write_images


@pytest.fixture(scope="module")
def work(tmp_path_factory, sample_nuclei, sample_nuclei_labels) -> Work:
    folder = tmp_path_factory.mktemp("images")
    material = Material.find([write_images(folder, sample_nuclei, sample_nuclei_labels)])
    model, manifest = load_model("tiny")
    out = tmp_path_factory.mktemp("out")
    config = CompressConfig(tiles=2, threads=1)
    return Work(config, Subject(model, manifest), material, torch.device("cpu"), out)


def test_tiles_and_students_show_objects_as_small_as_the_model_sees_them(work: Work) -> None:
    before = work.tiles()
    coarse = COARSE.apply(work.original, CoarseSettings(0.5), work)
    assert coarse.model.config.target_diameter_px == 16
    assert work.original.model.config.target_diameter_px == 32
    after = work.tiles()
    assert after.shape == before.shape
    assert not torch.equal(after, before)
    # the small images fill a quarter of the area that they filled before
    shares = [float((t != PAD_VALUE).float().mean()) for t in (before, after)]
    assert shares[1] < 0.6 * shares[0]
    settings = DistilSettings(student="mobilenetv4_conv_small")
    assert new_student(settings, work, 16.0).config.target_diameter_px == 16
    weights = zip(
        coarse.model.state_dict().values(), work.original.model.state_dict().values(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in weights)


def test_a_coarse_model_finds_the_sample_with_fewer_pixels(
    work: Work, sample_nuclei, tmp_path
) -> None:
    coarse = COARSE.apply(work.original, CoarseSettings(0.75), work)
    manifest = dataclasses.replace(
        work.original.manifest, name="coarse", architecture=coarse.model.config
    )
    save_checkpoint(tmp_path / "coarse", coarse.model.state_dict(), manifest)
    pixels = open_image(sample_nuclei)
    found = []
    for model in ("tiny", str(tmp_path / "coarse")):
        config = SegmentConfig(model=model, diameter_px=26.0, threads=1)
        found.append(segment(pixels, config=config, predictor=Predictor.load(config)))
    n_whole, n_coarse = (len(result.table) for result in found)
    assert n_coarse == pytest.approx(n_whole, rel=0.1)
    scales = [result.report["scale"] for result in found]
    assert scales[1] == pytest.approx(0.75 * scales[0], rel=0.01)


def test_what_is_too_small_to_be_found_is_refused(work: Work) -> None:
    reason = COARSE.reason_against(work.original, CoarseSettings(0.3))
    assert reason is not None
    assert "9.6 px" in reason
    with pytest.raises(SettingsError, match="ratio"):
        CoarseSettings(1.2)
