"""The user's images: with labels or without, read once, refused or warned of where they mislead."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch

from dinomask.compress.material import Material
from dinomask.compress.subject import Subject
from dinomask.compress.work import CompressionWarning
from dinomask.config import TrainConfig
from dinomask.errors import DataError
from dinomask.image.source import open_image
from dinomask.run.predictor import Predictor
from tests.compress.small import write_images


@pytest.fixture(scope="module")
def predictor():
    subject = Subject.load("tiny")
    return Predictor(subject.model, subject.manifest, torch.device("cpu"))


def test_labels_give_the_size_where_there_are_any(
    tmp_path, predictor, sample_nuclei, sample_nuclei_labels
):
    material = Material.find([write_images(tmp_path, sample_nuclei, sample_nuclei_labels)])
    read = material.read(predictor)
    assert material.labelled and all(image.diameter_px for image in read)
    assert material.record()["images"] == material.record()["labelled"] == 2
    assert material.tiles(predictor, 3).shape == (3, 3, 224, 224)


def test_without_labels_the_model_says_how_large_objects_are(predictor, sample_nuclei):
    material = Material.of_images([open_image(sample_nuclei)])
    (read,) = material.read(predictor)
    assert not material.labelled and set(np.unique(read.labels_yx)) == {-1}
    assert 10 < read.diameter_px < 40
    stream = material.stream(predictor, TrainConfig(steps=1, crop_px=112), predictor.model.config)
    crop = stream[0]
    assert crop.image_cyx.shape == (3, 112, 112) and len(crop.boxes_yxyx_px) == 0
    assert torch.equal(material.tiles(predictor, 2, seed=5), material.tiles(predictor, 2, seed=5))


def test_plain_folders_and_single_images_will_do(tmp_path):
    for i in range(5):
        tifffile.imwrite(tmp_path / f"{i}.tif", np.zeros((30, 30), np.uint8))
    assert len(Material.find([tmp_path]).sources) == 5
    assert [s.name for s in Material.find([tmp_path], limit=3).sources] == ["0", "2", "4"]
    assert len(Material.find([tmp_path / "1.tif"]).sources) == 1


def test_no_image_at_all_is_refused(tmp_path):
    with pytest.raises(DataError, match="without any"):
        Material.find([tmp_path])
    with pytest.raises(DataError, match="labels aren't needed"):
        Material([])


def test_images_far_from_what_the_model_knows_are_warned_of(predictor):
    noise = np.random.default_rng(0).normal(100, 1, (120, 120)).astype(np.float32)
    material = Material.of_images([open_image(noise, axes="yx")])
    with pytest.warns(CompressionWarning, match="no object in any"):
        material.read(predictor)


def test_images_that_cannot_be_read_are_left_out(tmp_path, predictor):
    y, x = np.mgrid[:160, :160]
    discs = ((y % 40 - 20) ** 2 + (x % 40 - 20) ** 2 < 120).astype(np.uint8) * 200
    tifffile.imwrite(tmp_path / "good.tif", discs)
    (tmp_path / "bad.tif").write_bytes(b"no image")
    with pytest.warns(CompressionWarning, match="1 of 2 images are left out"):
        assert len(Material.find([tmp_path]).read(predictor)) == 1
