"""The seam report: tiles that are fine, tiles that are not, and images without seams."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tifffile

from dinomask.config import SegmentConfig, TileConfig
from dinomask.errors import InputError, SettingsError
from dinomask.image import open_image
from dinomask.run.predictor import Predictor
from dinomask.run.seams import seam_report

CONFIG = SegmentConfig(diameter_px=26.0, threads=1, tiles=TileConfig(tile_px=224, halo_px=56))


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(SegmentConfig(threads=1))


@pytest.fixture(scope="module")
def image(sample_nuclei):
    return tifffile.imread(sample_nuclei)[:300, :300]


def test_a_halo_that_is_large_enough_shows_no_seams(predictor, image):
    steps = []
    report = seam_report(
        open_image(image), CONFIG, predictor, on_tile=lambda *step: steps.append(step)
    )
    assert report.finding.severity == "info"
    assert report.n_by_seams > 0
    assert report.n_by_seams_matched == report.n_by_seams <= report.n_matched
    assert report.mean_iou > 0.9
    assert report.count_difference == report.n_tiled - report.n_untiled
    assert steps[-1][0] == steps[-1][1] == len(steps) >= report.n_tiles > 1
    assert json.loads(json.dumps(report.as_dict()))["halo_px"] == 56


def test_objects_larger_than_the_halo_are_reported_with_a_remedy(predictor, sample_nuclei):
    config = dataclasses.replace(CONFIG, tiles=TileConfig(tile_px=224, halo_px=0, seam_px=0))
    report = seam_report(open_image(sample_nuclei), config, predictor)
    assert report.n_cut >= report.n_merged > 0
    assert report.finding.severity == "warning"
    assert "--halo" in report.finding.remedy


def test_the_crop_lies_where_tiles_meet_and_objects_are(predictor, image):
    # nuclei in the lower right part of a dark field
    field = np.full((900, 900), np.percentile(image, 1), image.dtype)
    field[600:, 600:] = image
    report = seam_report(open_image(field), CONFIG, predictor, crop_px=150)
    top, left, bottom, right = report.crop_yxyx_px
    assert (bottom - top, right - left) == (150, 150)
    assert top >= 500
    assert left >= 500
    assert report.n_untiled > 0


def test_a_single_tile_has_no_seams(predictor, image):
    config = dataclasses.replace(CONFIG, tiles=TileConfig())
    with pytest.raises(SettingsError, match="single tile"):
        seam_report(open_image(image), config, predictor)


def test_an_image_without_objects_says_so(predictor):
    dark = open_image(np.random.default_rng(0).normal(100, 1, (500, 500)).astype(np.float32))
    assert seam_report(dark, CONFIG, predictor).n_untiled == 0
    with pytest.raises(InputError, match="--diameter"):
        seam_report(
            open_image(np.zeros((500, 500), np.uint8)),
            dataclasses.replace(CONFIG, diameter_px="auto"),
            predictor,
        )
