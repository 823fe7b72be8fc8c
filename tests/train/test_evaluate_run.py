"""Evaluations as users run them: images segmented, compared and reported."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from dinomask.config import SegmentConfig
from dinomask.errors import OutputError
from dinomask.measure.coco import score_instances
from dinomask.measure.matching import score_image
from dinomask.run.predictor import Predictor
from dinomask.train.datasets import Sample, find_samples
from dinomask.train.evaluate import Evaluated, evaluate


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(SegmentConfig(threads=1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sample_nuclei, sample_nuclei_labels):
    """Two images: a corner of the sample, and one with nothing in it."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for kind, path in (("images", sample_nuclei), ("labels", sample_nuclei_labels)):
        tifffile.imwrite(root / kind / "corner.tif", tifffile.imread(path)[:200, :200])
        tifffile.imwrite(root / kind / "nothing.tif", np.zeros((90, 90), np.uint16))
    index = "name,split,modality\ncorner,val,nuclei\nnothing,val,blank\n"
    (root / "index.csv").write_text(index)
    return root


def test_every_image_and_modality_is_reported(predictor, folder, tmp_path):
    seen = []
    report = evaluate(
        find_samples([folder], "val"),
        SegmentConfig(threads=1),
        save=tmp_path / "predicted",
        predictor=predictor,
        on_progress=lambda p: seen.append((p.done, p.total)),
    )
    assert seen == [(1, 2), (2, 2)]
    assert set(report["modalities"]) == {"nuclei", "blank"}
    assert report["modalities"]["blank"]["ap50"] == 1
    assert report["mean"]["images"] == 2
    mean = (report["modalities"]["nuclei"]["ap50"] + 1) / 2
    assert report["mean"]["ap50"] == pytest.approx(mean)
    saved = tifffile.imread(tmp_path / "predicted" / "corner.tif")
    row = next(r for r in report["images"] if r["name"] == "corner")
    assert row["n_prediction"] == len(np.unique(saved)) - 1
    seconds = sum(row["seconds"] for row in report["images"])
    assert report["mean"]["px_per_s"] == pytest.approx((200**2 + 90**2) / seconds, rel=0.05)


def test_earlier_results_are_not_overwritten(predictor, folder, tmp_path):
    (tmp_path / "corner.tif").write_text("precious")
    samples = find_samples([folder], "val")
    with pytest.raises(OutputError, match=r"corner\.tif"):
        evaluate(samples, SegmentConfig(threads=1), save=tmp_path, predictor=predictor)
    assert (tmp_path / "corner.tif").read_text() == "precious"


@pytest.mark.parametrize(
    ("used", "true", "right"),
    [
        (20, 20, True),
        (24.9, 20, True),
        (25.1, 20, False),
        (15.1, 20, True),
        (14, 20, False),
        (None, 20, False),
        (20, None, None),
    ],
)
def test_an_estimate_is_right_within_a_quarter(used, true, right, tmp_path):
    sample = Sample("a", tmp_path, tmp_path, "val", "m", "d")
    blank = np.zeros((3, 3), np.int32)
    scores, instances = score_image(blank, blank), score_instances(blank, blank, {})
    assert Evaluated(sample, scores, instances, used, true, 1.0, 9).size_right is right


def test_the_bundled_model_keeps_its_accuracy_on_real_images(predictor, data_dir):
    """A gate: well below the figures of the model card, well above a broken model."""
    samples = find_samples([data_dir / "dsb2018"], "val")[::12]
    report = evaluate(samples, SegmentConfig(threads=1), predictor=predictor)
    assert report["mean"]["ap50"] > 0.6
    assert report["mean"]["size_within_25pct"] > 0.6
