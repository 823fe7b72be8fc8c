"""Faulty annotations as users meet them: what `dinomask train` and `evaluate` say of them."""

from __future__ import annotations

import json
import re
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dinomask.cli import main
from tests.train.scenes import disc_labels, image_of, save, write_folder

if TYPE_CHECKING:
    from pathlib import Path

TINY_TRAINING = ("--steps", "1", "--batch", "1", "--crop", "56", "--threads", "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "discs", 2)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    printed = capsys.readouterr()
    return int(stop.value.code or 0), " ".join((printed.out + printed.err).split())


def replace(folder: Path, kind: str, pixels: np.ndarray, suffix: str = ".tif") -> None:
    (folder / kind / "scene1.png").unlink()
    save(folder / kind / f"scene1{suffix}", pixels)


def spoil(folder: Path, fault: str) -> None:
    labels = disc_labels(seed=1)
    if fault == "fractions":
        replace(folder, "labels", labels.astype(np.float32) / 2)
    elif fault == "negative":
        replace(folder, "labels", labels.astype(np.int16) - 1)
    elif fault == "size":
        replace(folder, "labels", disc_labels(side_px=80))
    elif fault == "colours":
        replace(folder, "labels", np.repeat(labels[..., None], 3, 2).astype(np.uint8), ".png")
    elif fault in ("nan", "inf"):
        image = image_of(labels).astype(np.float32)
        image[10, 20] = float(fault)
        replace(folder, "images", image)
    elif fault == "no labels at all":
        for path in (folder / "labels").iterdir():
            path.unlink()
    elif fault == "other names":
        for path in (folder / "labels").iterdir():
            path.rename(path.with_stem(f"{path.stem}_mask"))


FAULTS = {
    "fractions": r"whole numbers.*the id \d\.5 .*scene1\.tif",
    "negative": r"non-negative integers.*the id -1 .*scene1\.tif",
    "size": r"scene1\.png has 96 x 96 pixels; got 80 x 80 pixels in .*scene1\.tif",
    "colours": r"one channel; got 3 channels in .*scene1\.png",
    "nan": r"finite values; got NaN or infinity in .*scene1\.tif \(1 values\)",
    "inf": r"finite values; got NaN or infinity in .*scene1\.tif \(1 values\)",
    "no labels at all": "2 images and 0 label images",
    "other names": "none for 'scene0_mask' .* no labels for the image 'scene0'",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_training_refuses_before_it_writes(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, fault: str
) -> None:
    spoil(folder, fault)
    code, text = run(capsys, "train", folder, "--out", tmp_path / "model", *TINY_TRAINING)
    assert code == 2
    assert re.search(FAULTS[fault], text), text
    assert not list((tmp_path / "model").glob("*.safetensors"))


@pytest.mark.parametrize("fault", ["negative", "nan", "size"])
def test_evaluations_refuse_it_too(
    capsys: pytest.CaptureFixture[str], folder: Path, fault: str
) -> None:
    spoil(folder, fault)
    (folder / "images" / "scene0.png").unlink()
    (folder / "labels" / "scene0.png").unlink()
    code, text = run(capsys, "evaluate", folder, "--threads", "1", "--diameter", "18")
    assert code == 2
    assert re.search(FAULTS[fault], text), text


def test_nothing_but_empty_labels(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    for path in (folder / "labels").iterdir():
        save(path, np.zeros((96, 96), np.uint16))
    code, text = run(capsys, "train", folder, "--out", tmp_path / "model", *TINY_TRAINING)
    assert code == 2
    assert "at least one annotated object; got 2 images without any" in text


def test_training_on_labels_that_need_repair(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    """A mask, an image without labels and an empty label image: trained, with warnings."""
    save(folder / "labels" / "scene0.png", (disc_labels() > 0).astype(np.uint8) * 255)
    save(folder / "labels" / "scene1.png", np.zeros((96, 96), np.uint8))
    save(folder / "images" / "extra.png", image_of(disc_labels()))
    with warnings.catch_warnings():
        # as outside of tests, where warnings are no errors
        warnings.simplefilter("always")
        code, text = run(capsys, "train", folder, "--out", tmp_path / "model", *TINY_TRAINING)
    assert code == 0, text
    assert (tmp_path / "model" / "model.safetensors").is_file()
    assert "warning: " in text
    assert "1 of 3 images" in text
    assert "the labels of 1 of 2 images were repaired" in text
    assert "scene0.png: 1 ids (255) look like masks" in text


def test_evaluating_more_objects_than_16_bits_hold(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cells = np.arange(270 * 270, dtype=np.uint32).reshape(270, 270) + 1
    labels = np.kron(cells, np.array([[1, 0], [0, 0]], np.uint32))
    for kind, pixels in (("images", np.full(labels.shape, 7, np.uint8)), ("labels", labels)):
        (tmp_path / "d" / kind).mkdir(parents=True)
        save(tmp_path / "d" / kind / "many.tif", pixels)
    report = tmp_path / "e.json"
    options = ("--threads", "1", "--diameter", "32", "--json", report)
    code, text = run(capsys, "evaluate", tmp_path / "d", *options)
    assert code == 0, text
    assert json.loads(report.read_text())["mean"]["objects"] == 72_900
