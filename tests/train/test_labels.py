"""Label images from other programs: what is taken, repaired and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label as connected

from dinomask.errors import DataError
from dinomask.train.labels import LARGEST_ID, DataWarning, LabelImage, read_labels, repair_labels
from tests.train.scenes import disc_labels, save

if TYPE_CHECKING:
    from pathlib import Path


def read(folder: Path, labels: np.ndarray, suffix: str = ".tif") -> LabelImage:
    path = folder / f"labels{suffix}"
    save(path, labels)
    return read_labels(path, labels.shape, folder / "image.tif")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_whole_numbers_saved_as_floats_are_ids(tmp_path: Path, dtype: type, suffix: str) -> None:
    labels = disc_labels()
    found = read(tmp_path, labels.astype(dtype), suffix)
    assert found.labels_yx.dtype == np.int32
    assert np.array_equal(found.labels_yx, labels)
    assert found.repairs == ()


@pytest.mark.parametrize("value", [2.5, np.nan, np.inf, 1e30])
def test_other_floats_are_named_with_their_place(tmp_path: Path, value: float) -> None:
    labels = disc_labels().astype(np.float32)
    labels[3, 4] = value
    with pytest.raises(DataError, match=r"row 3, column 4 of .*labels\.npy \(1 such"):
        read(tmp_path, labels, ".npy")


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_negative_ids_are_named_with_their_place(tmp_path: Path, dtype: type) -> None:
    labels = disc_labels().astype(dtype)
    labels[5, 6] = -1
    with pytest.raises(DataError, match=r"-1.* at row 5, column 6 .*labels\.tif"):
        read(tmp_path, labels)


def test_a_size_mismatch_names_both_files(tmp_path: Path) -> None:
    save(tmp_path / "labels.tif", disc_labels(side_px=90))
    with pytest.raises(DataError, match=r"image\.tif has 96 x 80 .* 90 x 90 pixels in .*labels"):
        read_labels(tmp_path / "labels.tif", (96, 80), tmp_path / "image.tif")


def test_more_objects_than_16_bits_hold(tmp_path: Path) -> None:
    cells = np.arange(270 * 270, dtype=np.uint32).reshape(270, 270) + 1
    labels = np.kron(cells, np.pad(np.ones((2, 2), np.uint32), (0, 1)))
    found = read(tmp_path, labels)
    assert found.labels_yx.max() == 72_900
    assert np.array_equal(found.labels_yx, labels)
    assert found.repairs == ()


def test_large_ids_keep_the_way_back_to_the_file(tmp_path: Path) -> None:
    labels = np.where(disc_labels() > 0, disc_labels().astype(np.uint32) + LARGEST_ID, 0)
    found = read(tmp_path, labels.astype(np.uint32))
    assert found.labels_yx.max() == 6
    assert np.array_equal(found.file_ids[found.labels_yx], labels)


def blobs(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """Rectangles of (id, top, left, height, width) in a field of 200 x 200."""
    labels = np.zeros((200, 200), np.uint16)
    for number, top, left, height, width in boxes:
        labels[top : top + height, left : left + width] = number
    return labels


def test_a_reused_id_is_two_objects() -> None:
    labels = blobs((7, 10, 10, 20, 20), (7, 10, 100, 12, 12), (9, 100, 10, 20, 20))
    found = repair_labels(labels)
    assert np.unique(found.labels_yx).tolist() == [0, 7, 9, 10]
    # the largest piece keeps the id, the other still knows what the file called it
    assert (found.labels_yx[10, 10], found.labels_yx[10, 100]) == (7, 10)
    assert np.array_equal(found.file_ids[found.labels_yx], labels)
    assert len(found.repairs) == 1
    assert "1 ids (7) stand for objects far apart" in found.repairs[0]


def test_ids_that_wrapped_at_8_bits_are_told_apart(tmp_path: Path) -> None:
    cells = np.arange(24 * 24).reshape(24, 24) + 1
    labels = np.kron(cells, np.pad(np.ones((6, 6), int), (0, 2)))
    found = read(tmp_path, (labels % 256).astype(np.uint8))
    # the two cells whose id became 0 are lost
    assert len(np.unique(found.labels_yx)) - 1 == 24 * 24 - 2
    assert "each became an object" in found.repairs[0]


def test_a_cell_cut_in_two_stays_one() -> None:
    labels = blobs((3, 10, 10, 20, 40), (5, 10, 26, 20, 6))
    assert np.array_equal(repair_labels(labels).labels_yx, labels)
    near_but_small = blobs((3, 10, 10, 20, 20), (3, 35, 10, 2, 2))
    found = repair_labels(near_but_small)
    assert np.array_equal(found.labels_yx, near_but_small)
    assert found.repairs == ()


def test_specks_of_a_brush_become_background() -> None:
    labels = blobs((3, 10, 10, 20, 20), (3, 45, 12, 2, 2), (3, 150, 150, 1, 1), (4, 80, 80, 1, 1))
    found = repair_labels(labels)
    assert np.array_equal(found.labels_yx, blobs((3, 10, 10, 20, 20), (4, 80, 80, 1, 1)))
    assert "1 ids (3) had specks" in found.repairs[0]
    assert "(2 specks)" in found.repairs[0]


@pytest.mark.parametrize("value", [1, 255])
def test_a_binary_mask_becomes_objects(tmp_path: Path, value: int) -> None:
    discs = disc_labels()
    found = read(tmp_path, np.where(discs > 0, value, 0).astype(np.uint8), ".png")
    assert len(np.unique(found.labels_yx)) - 1 == 6
    assert len(np.unique(found.labels_yx[discs == 4])) == 1
    assert "look like masks" in found.repairs[0]
    as_booleans = read(tmp_path, discs > 0, ".npy")
    assert len(np.unique(as_booleans.labels_yx)) - 1 == 6


small_labels = hnp.arrays(
    np.uint8, st.tuples(*[st.integers(1, 24)] * 2), elements=st.integers(0, 5)
)


@given(small_labels, st.sampled_from([1, 5]))
def test_repairs_never_join_invent_or_hide(labels: np.ndarray, spread: int) -> None:
    labels = np.kron(labels, np.pad(np.ones((1, 1), np.uint8), (0, spread)))
    found = repair_labels(labels)
    kept = found.labels_yx > 0
    ids = np.arange(256) if found.file_ids is None else found.file_ids
    assert np.array_equal(ids[found.labels_yx][kept], labels[kept])
    assert not found.labels_yx[labels == 0].any()
    assert bool(found.repairs) == (not np.array_equal(found.labels_yx, labels))
    # connected pixels of one id are never parted, and every id keeps its largest piece
    pieces = connected(labels, background=0, connectivity=2)
    for piece in range(1, pieces.max() + 1):
        assert len(np.unique(found.labels_yx[pieces == piece])) == 1
    for number in np.unique(labels[labels > 0]):
        assert (found.labels_yx == number).any()


def test_noise_instead_of_labels_ends_in_time() -> None:
    labels = np.random.default_rng(0).integers(0, 40, (256, 256))
    found = repair_labels(labels)
    assert "look like masks" in found.repairs[0]


def test_repairs_are_told_when_a_sample_is_read(tmp_path: Path) -> None:
    from dinomask.train.samples import Sample

    labels = blobs((7, 10, 10, 20, 20), (7, 10, 100, 12, 12))
    save(tmp_path / "x.png", labels.astype(np.uint8))
    save(tmp_path / "labels.png", labels)
    sample = Sample("x", tmp_path / "x.png", tmp_path / "labels.png", "all", "fluo", "here")
    with pytest.warns(DataWarning, match=r"labels\.png: 1 ids \(7\)"):
        _, read_labels_yx, _ = sample.read()
    assert read_labels_yx.max() == 8


def test_real_data_sets_are_left_as_they_are(data_dir: Path) -> None:
    from dinomask.train.datasets import find_samples

    samples = [s for name in ("dsb2018", "usiigaci") for s in find_samples([data_dir / name])]
    in_pieces = {"dsb_f6863b83d75e", "dsb_ef3ef194e565", "usi_13", "usi_34", "usi_20"}
    taken = [s for s in samples if s.name in in_pieces]
    assert len(taken) == 5
    for sample in [*taken, *samples[::60]]:
        assert sample.read_annotated().repairs == ()
