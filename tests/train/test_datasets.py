"""Folders of annotated images: what is accepted, and what is said of the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import TrainConfig
from dinomask.errors import DataError, DinomaskError
from dinomask.train.crops import CropDataset
from dinomask.train.datasets import (
    Sample,
    describe_sources,
    draw_evenly,
    equivalent_diameters_px,
    find_data,
    find_samples,
    median_diameter_px,
)
from dinomask.train.labels import DataWarning
from tests.train.coco_scenes import write_coco
from tests.train.scenes import disc_labels, image_of, save, write_folder


def sample_of(folder: Path, image: np.ndarray, labels: np.ndarray, suffix: str = ".tif") -> Sample:
    save(folder / f"image{suffix}", image)
    save(folder / f"labels{suffix}", labels)
    return Sample("x", folder / f"image{suffix}", folder / f"labels{suffix}", "all", "fluo", "here")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_images_and_labels(tmp_path: Path, suffix: str, dtype: type) -> None:
    labels = disc_labels().astype(dtype)
    image = image_of(labels).astype(dtype)
    image_cyx, labels_yx, is_rgb = sample_of(tmp_path, image, labels, suffix).read()
    assert image_cyx.shape == (1, *image.shape)
    assert image_cyx.dtype == dtype
    assert not is_rgb
    assert np.array_equal(image_cyx[0], image)
    assert labels_yx.dtype == np.int32
    assert np.array_equal(labels_yx, labels)


@pytest.mark.parametrize("n_channels", [3, 4])
def test_colours_without_alpha(tmp_path: Path, n_channels: int) -> None:
    labels = disc_labels(side_px=64, n=2)
    image = np.random.default_rng(0).integers(0, 255, (64, 64, n_channels)).astype(np.uint8)
    image_cyx, _, is_rgb = sample_of(tmp_path, image, labels, ".png").read()
    assert is_rgb
    assert np.array_equal(image_cyx, np.moveaxis(image[..., :3], 2, 0))


def test_ids_beyond_a_table_are_renumbered_in_order(tmp_path: Path) -> None:
    labels = np.zeros((20, 20), np.uint32)
    labels[:5], labels[5:8], labels[9:12] = 4_000_000_000, 7, 3_000_000_000
    _, read, _ = sample_of(tmp_path, np.zeros((20, 20), np.uint8), labels).read()
    assert np.unique(read).tolist() == [0, 1, 2, 3]
    assert (read[6, 0], read[10, 0], read[0, 0]) == (1, 2, 3)
    everywhere = np.where(labels == 0, 4_100_000_000, labels).astype(np.uint32)
    _, read, _ = sample_of(tmp_path, np.zeros((20, 20), np.uint8), everywhere).read()
    assert np.unique(read).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.ones((96, 95), np.uint16), "size"),
        (np.full((96, 96), 0.5, np.float32), "whole numbers"),
        (np.full((96, 96), -1, np.int16), "non-negative integers"),
        (np.ones((96, 96, 3), np.uint8), "one channel"),
    ],
    ids=["size", "float", "negative", "colours"],
)
def test_labels_that_do_not_fit(tmp_path: Path, labels: np.ndarray, message: str) -> None:
    sample = sample_of(tmp_path, np.zeros((96, 96), np.uint8), labels)
    with pytest.raises(DataError, match=message):
        sample.read()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_with_values_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    image = np.zeros((32, 32), np.float32)
    image[3, 4] = value
    with pytest.raises(DataError, match="NaN or infinity"):
        sample_of(tmp_path, image, np.ones((32, 32), np.uint8)).read()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize("keep", [0, 30])
def test_damaged_files(tmp_path: Path, suffix: str, keep: int) -> None:
    sample = sample_of(tmp_path, np.zeros((32, 32), np.uint8), np.ones((32, 32), np.uint8), suffix)
    sample.image.write_bytes(sample.image.read_bytes()[:keep])
    with pytest.raises(DinomaskError):
        sample.read()


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    samples = find_samples([write_folder(tmp_path / "discs", 3)])
    assert [s.name for s in samples] == ["scene0", "scene1", "scene2"]
    assert {(s.split, s.modality, s.dataset) for s in samples} == {("all", "discs", "discs")}
    with pytest.raises(DataError, match=r"index\.csv"):
        find_samples([tmp_path / "discs"], "test")


def test_an_index_names_splits_and_modalities(tmp_path: Path) -> None:
    lines = ["name,split,modality", "scene2,val,fluo", "scene0,train,phase"]
    folder = write_folder(tmp_path / "discs", 3, lines)
    samples = find_samples([folder])
    assert [(s.name, s.split, s.modality) for s in samples] == [
        ("scene0", "train", "phase"),
        ("scene2", "val", "fluo"),
    ]
    assert [s.name for s in find_samples([folder], "val")] == ["scene2"]
    with pytest.raises(DataError, match="train, val"):
        find_samples([folder], "test")


def test_an_index_saved_by_a_spreadsheet(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "discs", 1)
    text = "name,split,modality\r\nscene0,train,\r\n"
    (folder / "index.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [(s.split, s.modality) for s in find_samples([folder])] == [("train", "discs")]


def test_several_folders_are_joined(tmp_path: Path) -> None:
    folders = [write_folder(tmp_path / "a", 1), write_folder(tmp_path / "b", 2)]
    assert [(s.dataset, s.name) for s in find_samples(folders)] == [
        ("a", "scene0"),
        ("b", "scene0"),
        ("b", "scene1"),
    ]


def test_other_programs_notes_are_passed_over(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "discs", 1)
    (folder / "images" / "._scene0.png").write_bytes(b"note")
    (folder / "images" / "readme.txt").write_text("hello")
    assert [s.name for s in find_samples([folder])] == ["scene0"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,split", "scene0,train"], "column 'name'"),
        (["name"], "column 'name'"),
        (["name", "scene0", "elsewhere"], "'elsewhere'"),
        (["name,split", "scene0,train", "scene0,val"], "each name once"),
    ],
)
def test_an_index_that_does_not_fit(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_samples([write_folder(tmp_path / "discs", 1, lines)])


def test_an_index_in_another_encoding(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "discs", 1)
    (folder / "index.csv").write_bytes("name,modality\nscene0,Zellen färben\n".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-8"):
        find_samples([folder])


def test_folders_that_are_no_data_sets(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'images' and 'labels'"):
        find_samples([tmp_path / "nowhere"])
    folder = write_folder(tmp_path / "discs", 2)
    (folder / "images" / "scene1.png").rename(folder / "images" / "scene1_raw.png")
    with pytest.raises(DataError, match=r"for 'scene1' .* the image 'scene1_raw'"):
        find_samples([folder])
    save(folder / "labels" / "scene0.tif", disc_labels())
    with pytest.raises(DataError, match=r"scene0\.png and scene0\.tif"):
        find_samples([folder])


def test_images_without_labels_are_counted_and_left_out(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "discs", 4)
    for i in (1, 3):
        (folder / "labels" / f"scene{i}.png").unlink()
    with pytest.warns(DataWarning, match=r"2 of 4 images .* no labels .*: scene1, scene3\."):
        samples = find_samples([folder])
    assert [s.name for s in samples] == ["scene0", "scene2"]
    # an index promises them
    (folder / "index.csv").write_text("name\nscene0\nscene1\n")
    with pytest.raises(DataError, match=r"'scene1' \(1 in all\)"):
        find_samples([folder])
    (folder / "index.csv").write_text("name\nscene0\n")
    assert [s.name for s in find_samples([folder])] == ["scene0"]


def test_an_index_names_groups_and_image_classes(tmp_path: Path) -> None:
    lines = ["name,group,image_class", "scene0, dish 1 ,ill", "scene1,,"]
    samples = find_samples([write_folder(tmp_path / "discs", 2, lines)])
    assert [(s.group, s.image_class) for s in samples] == [("dish 1", "ill"), (None, None)]


def test_empty_label_images_are_background(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "discs", 2)
    save(folder / "labels" / "scene1.png", np.zeros((96, 96), np.uint16))
    crops = CropDataset(find_samples([folder]), TrainConfig(steps=1, crop_px=112), 32.0)
    shown = [crops[i] for i in range(12)]
    empty = [c for i, c in enumerate(shown) if crops.source(i) == "scene1"]
    assert empty
    for crop in empty:
        assert not len(crop.boxes_yxyx_px)
        assert (crop.labels_yx == 0).all()
    assert any(len(crop.boxes_yxyx_px) for crop in shown)


def test_a_json_is_read_once_for_samples_and_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_coco(tmp_path / "a.json", {"x.png": disc_labels()})
    read = []
    load = json.loads
    monkeypatch.setattr(json, "loads", lambda text: (read.append(1), load(text))[1])
    data = find_data([file])
    assert len(read) == 1
    assert data.sources[0]["images"] == str(len(data.samples)) == "1"
    assert data.sources == describe_sources([file])


def test_diameters_by_hand() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[:10, :10], labels[20:24, 20:24], labels[30, 30] = 1, 5, 9
    expected = [np.sqrt(a * 4 / np.pi) for a in (100, 16, 1)]
    assert equivalent_diameters_px(labels) == pytest.approx(expected)
    assert median_diameter_px(labels) == pytest.approx(expected[1])
    assert median_diameter_px(np.zeros((5, 5), np.int32)) is None


def test_real_data_sets_have_what_their_index_promises(data_dir: Path) -> None:
    for name in ("dsb2018", "usiigaci"):
        samples = find_samples([data_dir / name])
        assert {"train", "val"} <= {s.split for s in samples}
        image, labels, _ = samples[0].read()
        assert image.shape[1:] == labels.shape
        assert labels.max() > 0


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    n=st.integers(0, 40),
    seed=st.integers(0, 99),
)
def test_images_are_drawn_evenly_over_the_modalities(counts: list[int], n: int, seed: int) -> None:
    here = Path()
    samples = [
        Sample(f"{m}-{i}", here, here, "val", f"modality {m}", "set")
        for m, count in enumerate(counts)
        for i in range(count)
    ]
    drawn = draw_evenly(samples, n, seed)
    assert len({s.name for s in drawn}) == len(drawn) == min(n, len(samples))
    taken = [sum(s.modality == f"modality {m}" for s in drawn) for m in range(len(counts))]
    # none gets two more than another that has some left
    left = [t for t, count in zip(taken, counts, strict=True) if t < count]
    assert not left or max(taken) <= min(left) + 1
    assert draw_evenly(samples, n, seed) == drawn
