"""COCO data sets: which files are found, and what is said of the rest."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dinomask.config import AugmentConfig
from dinomask.errors import DataError
from dinomask.train.augment import AnnotatedImage, draw_crop
from dinomask.train.datasets import describe_sources, find_data, find_samples
from tests.train.coco_scenes import annotate, to_runs, write_coco
from tests.train.scenes import disc_labels, image_of, save

if TYPE_CHECKING:
    from pathlib import Path


def test_crops_of_crowds_stay_unsupervised(tmp_path: Path) -> None:
    labels = disc_labels(4, 96, 8)
    crowd = [{"id": 7, "image_id": 0, "segmentation": [[0, 0, 96, 0, 96, 40, 0, 40]], "iscrowd": 1}]
    file = write_coco(
        tmp_path / "a.json", {"x.png": labels}, annotations=annotate(labels, to_runs, 0) + crowd
    )
    image = AnnotatedImage.read(find_samples([file])[0])
    assert image.diameter_px == pytest.approx(16, abs=0.5)
    assert len(image.centres_yx) == 4
    share = 0.0
    for seed in range(20):
        crop = draw_crop(image, 112, 32, AugmentConfig(), np.random.default_rng(seed))
        assert crop.labels_yx.max() == len(crop.boxes_yxyx_px)
        share += np.mean(crop.labels_yx == -1) / 20
    # 40 of 96 rows, without their objects; slivers of objects alone make up about 0.001
    assert 0.2 < share < 0.6


@pytest.mark.parametrize("layout", ["beside", "images", "above annotations", "file alone"])
def test_where_images_are_found(tmp_path: Path, layout: str) -> None:
    scenes = {f"scene{i}.png": disc_labels(seed=i) for i in range(2)}
    data = tmp_path / "discs"
    if layout == "above annotations":
        write_coco(data / "annotations" / "instances.json", scenes, data / "pictures")
    else:
        write_coco(data / "a.json", scenes, data / "images" if layout == "images" else None)
    samples = find_samples([data / "a.json" if layout == "file alone" else data])
    assert [(s.name, s.split) for s in samples] == [("scene0", "all"), ("scene1", "all")]
    name = "a" if layout == "file alone" else "discs"
    assert {(s.dataset, s.modality) for s in samples} == {(name, name)}
    for sample in samples:
        image_cyx, labels_yx, is_rgb = sample.read()
        assert np.array_equal(image_cyx[0], image_of(scenes[f"{sample.name}.png"]))
        assert np.array_equal(labels_yx > 0, scenes[f"{sample.name}.png"] > 0)
        assert not is_rgb


CELL_TYPES = ("A172", "BT474", "BV2", "Huh7", "MCF7", "SHSY5Y", "SkBr3", "SKOV3")


def write_livecell(root: Path, in_folders: bool) -> Path:
    """Write what LIVECell's archives unpack to: 8 cell types in each of train, val and test."""
    where = root / "annotations" / "LIVECell"
    cell = [{"supercategory": "cell", "id": 1, "name": "cell"}]
    for split, archive in (("train", "train_val"), ("val", "train_val"), ("test", "test")):
        images = {f"{c}_Phase_A1_1_00d00h00m_{split}.tif": disc_labels() for c in CELL_TYPES}
        kept = root / "images" / f"livecell_{archive}_images"
        write_coco(where / f"livecell_coco_{split}.json", images, kept, categories=cell)
        for name in images if in_folders else ():
            folder = kept / name[: name.index("_")]
            folder.mkdir(exist_ok=True)
            (kept / name).rename(folder / name)
    # other parts of the download hold the same images again
    one = where.parent / "LIVECell_single_cells" / "a172" / "livecell_a172_train.json"
    content = json.loads((where / "livecell_coco_train.json").read_bytes())
    first = [a for a in content["annotations"] if a["image_id"] == 0]
    one.parent.mkdir(parents=True)
    one.write_text(json.dumps({"images": content["images"][:1], "annotations": first}))
    return root


@pytest.mark.parametrize("in_folders", [True, False], ids=["a folder a cell type", "flat"])
def test_livecell_as_it_unpacks(tmp_path: Path, in_folders: bool) -> None:
    root = write_livecell(tmp_path / "LIVECell_dataset_2021", in_folders)
    data = find_data([root], "val")
    assert [(s.name, s.split, s.modality) for s in data.samples] == [
        (f"{c}_Phase_A1_1_00d00h00m_val", "val", c) for c in sorted(CELL_TYPES)
    ]
    assert data.classes == ("cell",)
    assert {s.dataset for s in data.samples} == {"LIVECell_dataset_2021"}
    assert Counter(s.split for s in find_samples([root])) == {"train": 8, "val": 8, "test": 8}
    read = data.samples[3].read_annotated(data.classes)
    assert np.array_equal(read.labels_yx > 0, disc_labels() > 0)
    assert read.classes.tolist() == [0] * 7


def test_livecells_single_files(tmp_path: Path) -> None:
    root = write_livecell(tmp_path, in_folders=False)
    annotations = root / "annotations"
    (sample,) = find_samples([annotations / "LIVECell_single_cells" / "a172"], "train")
    assert (sample.modality, sample.split) == ("A172", "train")
    file = annotations / "LIVECell" / "livecell_coco_test.json"
    assert {s.modality for s in find_samples([file], "test")} == set(CELL_TYPES)


def test_livecells_annotations_keyed_by_id(tmp_path: Path) -> None:
    root = tmp_path / "keyed"
    write_coco(root / "livecell_coco_val.json", {"BV2_Phase_1.tif": disc_labels(3)})
    content = json.loads((root / "livecell_coco_val.json").read_bytes())
    content["annotations"] = {str(a["id"]): a for a in content["annotations"]}
    (root / "livecell_coco_val.json").write_text(json.dumps(content))
    (sample,) = find_samples([root], "val")
    assert sample.read()[1].max() == 3


def test_a_json_in_each_splits_folder(tmp_path: Path) -> None:
    for folder in ("train", "valid"):
        write_coco(tmp_path / folder / "_annotations.coco.json", {"scene.png": disc_labels()})
    (tmp_path / "train" / "metrics.json").write_text("[1, 2]")
    samples = find_samples([tmp_path])
    assert [(s.name, s.split) for s in samples] == [
        ("train_scene", "train"),
        ("valid_scene", "val"),
    ]
    with pytest.raises(DataError, match="train, val"):
        find_samples([tmp_path], "test")


def test_folders_in_the_json_decide(tmp_path: Path) -> None:
    scenes = {f"{kind}/scene.png": disc_labels(seed=i) for i, kind in enumerate(("fluo", "phase"))}
    samples = find_samples([write_coco(tmp_path / "a.json", scenes, tmp_path / "deep" / "down")])
    assert [(s.name, s.modality) for s in samples] == [
        ("fluo_scene", "fluo"),
        ("phase_scene", "phase"),
    ]


def test_licence_and_count_of_a_json(tmp_path: Path) -> None:
    file = write_coco(tmp_path / "a.json", {"x.png": disc_labels()})
    (tmp_path / "SOURCE.md").write_text("Licence: CC0\n")
    assert describe_sources([file])[0] | {"name": ""} == {
        "name": "",
        "split": "all",
        "images": "1",
        "licence": "CC0",
    }


def test_images_without_annotations_have_no_objects(tmp_path: Path) -> None:
    file = write_coco(tmp_path / "a.json", {"x.png": disc_labels()}, annotations=[])
    assert find_samples([file])[0].read()[1].max() == 0


TRIANGLE = [[0, 0, 9, 0, 0, 9]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 0, "file_name": "other.png"}], "annotations": []}, r"no file other"),
        ({"images": [{"id": 0}], "annotations": []}, "file_name"),
        ({"images": [{"id": 0, "file_name": "x.png"}] * 2}, "each image id once"),
        ({"images": [{"id": i, "file_name": "x.png"} for i in (0, 1)]}, "once, under a name"),
        ({"annotations": [{"id": 3, "image_id": 8, "segmentation": TRIANGLE}]}, "unknown image 8"),
        ({"annotations": [{"id": 3, "segmentation": TRIANGLE}]}, "image_id"),
        ({"annotations": [{"image_id": 0, "bbox": [0, 0, 3, 3]}]}, "masks"),
        ({"annotations": {}, "images": "none"}, "COCO's format"),
        ({"annotations": [3]}, "COCO's format"),
    ],
)
def test_contents_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = write_coco(tmp_path / "a.json", {"x.png": disc_labels()}, **changes)
    with pytest.raises(DataError, match=message):
        find_samples([file])


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "outline or run lengths for the annotation 3"),
        ([[1, 1, 5, 5]], "at least three corners"),
        ([[1, 1, 5, 5, 3]], "at least three corners"),
        ([[1, 1, 5, 5, 3, 3, 4]], "at least three corners"),
        ([[1, 1, 5, float("nan"), 3, 3]], "at least three corners"),
        ([["a", "b"]], "at least three corners"),
        ({"size": [96, 96]}, "'counts'"),
        ({"size": [96], "counts": [5]}, "'counts'"),
        ({"size": [96, 96], "counts": [[5]]}, "'counts'"),
    ],
)
def test_masks_that_are_none(tmp_path: Path, segmentation: Any, message: str) -> None:
    file = write_coco(
        tmp_path / "a.json",
        {"x.png": disc_labels()},
        annotations=[{"id": 3, "image_id": 0, "segmentation": segmentation}],
    )
    with pytest.raises(DataError, match=message) as raised:
        find_samples([file])
    assert "annotation 3" in str(raised.value)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"size": [96, 95], "counts": [96 * 95]}, r"\(96, 95\)"),
        ({"size": [96, 96], "counts": [96 * 96 + 1]}, "add up to 9216"),
        ({"size": [96, 96], "counts": [96 * 96 + 5, -5]}, "add up to 9216"),
        ({"size": [96, 96], "counts": "PP"}, "compressed"),
        ({"size": [96, 96], "counts": "\x01"}, "compressed"),
        ({"size": [96, 96], "counts": "o" * 40}, "compressed"),
        ({"size": [96, 96], "counts": ""}, "add up to 9216"),
    ],
)
def test_run_lengths_that_do_not_fit(tmp_path: Path, runs: Any, message: str) -> None:
    file = write_coco(
        tmp_path / "a.json",
        {"x.png": disc_labels()},
        annotations=[{"id": 3, "image_id": 0, "segmentation": runs}],
    )
    with pytest.raises(DataError, match=message) as raised:
        find_samples([file])[0].read()
    assert "annotation 3" in str(raised.value)


def test_an_image_of_another_size(tmp_path: Path) -> None:
    file = write_coco(tmp_path / "a.json", {"x.png": disc_labels()})
    save(tmp_path / "x.png", image_of(disc_labels(side_px=80)))
    with pytest.raises(DataError, match=r"\(96, 96\)"):
        find_samples([file])[0].read()


@pytest.mark.parametrize("content", [b"", b'{"images": [', b"\xff\xfe{}"])
def test_broken_files(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match="readable COCO json"):
        find_samples([file])
    with pytest.raises(DataError, match="readable COCO json"):
        find_samples([tmp_path / "nowhere.json"])


def test_files_between_which_nobody_can_choose(tmp_path: Path) -> None:
    scene = {"x.png": disc_labels()}
    for name in ("a", "b"):
        write_coco(tmp_path / f"{name}.json", scene)
    with pytest.raises(DataError, match=r"a\.json, b\.json"):
        find_samples([tmp_path])
    assert len(find_samples([tmp_path / "b.json"])) == 1
    save(tmp_path / "images.png", image_of(disc_labels()))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "x.png", image_of(disc_labels()))
    (tmp_path / "x.png").unlink()
    with pytest.raises(DataError, match=r"x\.png and two"):
        find_samples([tmp_path / "a.json"])
