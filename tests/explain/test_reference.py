"""What a model was trained on is told from what it was not."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from skimage import io

from dinomask.errors import DataError, ModelError
from dinomask.explain.reference import (
    REFERENCE_FILE,
    Reference,
    judge,
    make_reference,
    read_reference,
    typicality,
    write_reference,
)
from tests.explain.seen_scenes import predictor_of, seen_of
from tests.nets.small import small_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten images of dim discs."""
    folder = tmp_path / "discs"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for i in range(10):
        image, labels = discs(i)
        io.imsave(folder / "images" / f"{i}.tif", image, check_contrast=False)
        io.imsave(folder / "labels" / f"{i}.tif", labels, check_contrast=False)
    return folder


def discs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:112, :112]
    labels = np.zeros((112, 112), np.uint16)
    for n, (cy, cx) in enumerate(rng.uniform(16, 96, (4, 2)), 1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 < 16**2] = n
    image = 40 + 30 * (labels > 0) + rng.normal(0, 2, labels.shape)
    return image.astype(np.uint8), labels


def test_a_reference_knows_its_own_kind_and_outlives_the_disk(data: Path, tmp_path: Path) -> None:
    predictor = predictor_of(small_model())
    reference = make_reference(predictor, [data], n_images=10, generated_share=0)
    assert reference.sources == {"discs": 10}
    assert np.all(np.diff(reference.distances) >= 0)
    write_reference(reference, tmp_path)
    again = read_reference(tmp_path, predictor.manifest.weights_sha256)
    assert again is not None
    assert np.allclose(again.directions, reference.directions, atol=1e-3)
    own = typicality(again, seen_of(small_model(), discs(3)[0]))
    stripes = (128 + 100 * np.sin(np.mgrid[:112, :112][1])).astype(np.uint8)
    other = typicality(again, seen_of(small_model(), stripes))
    assert own.verdict == "inside"
    assert other.verdict == "outside"
    assert "outside what the model was trained on" in other.sentence


def test_distances_are_those_of_real_images_from_the_others(data: Path) -> None:
    predictor = predictor_of(small_model())
    reference = make_reference(predictor, [data], n_images=20, generated_share=0.2)
    n_generated = reference.sources["generated"]
    assert 0 < n_generated <= 3
    assert len(reference.directions) == 10 + n_generated
    real = reference.directions[:10]
    expected = [
        np.sort(
            [np.linalg.norm(one - other) for j, other in enumerate(reference.directions) if j != i]
        )
        for i, one in enumerate(real)
    ]
    assert np.allclose(reference.distances, np.sort([d[:5].mean() for d in expected]))


def test_other_weights_have_no_reference(data: Path, tmp_path: Path) -> None:
    predictor = predictor_of(small_model())
    reference = make_reference(predictor, [data], n_images=10, generated_share=0)
    write_reference(dataclasses.replace(reference, weights_sha256="2" * 64), tmp_path)
    assert read_reference(tmp_path, predictor.manifest.weights_sha256) is None
    assert read_reference(tmp_path / "none", "2" * 64) is None
    (tmp_path / REFERENCE_FILE).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="anew"):
        read_reference(tmp_path, "2" * 64)


def test_too_few_images_are_no_reference(data: Path) -> None:
    with pytest.raises(DataError, match="at least 8"):
        make_reference(predictor_of(small_model()), [data], n_images=3, generated_share=0)


@pytest.mark.parametrize(
    ("distance", "verdict"), [(0.1, "inside"), (95.5, "edge"), (200.0, "outside")]
)
def test_the_verdict_follows_the_reference_images(distance: float, verdict: str) -> None:
    reference = Reference("1" * 64, None, np.arange(100.0), {})  # type: ignore[arg-type]
    assert judge(reference, distance).verdict == verdict
