"""Classes: from tables and json files to the targets of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from dinomask.config import AugmentConfig, TrainConfig
from dinomask.errors import DataError
from dinomask.train.annotated import AnnotatedImage
from dinomask.train.augment import draw_crop
from dinomask.train.crops import CropDataset, collate
from dinomask.train.datasets import find_data
from tests.train.coco_scenes import annotate, to_polygons, write_coco
from tests.train.scenes import disc_labels, image_of, save, write_folder

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = TrainConfig(steps=1, crop_px=112, batch=2)
KINDS = {1: "nucleus", 2: "mitosis", 3: "nucleus", 4: "debris", 5: "mitosis", 6: "nucleus"}


def write_classed(folder: Path, n_images: int = 2, kinds: dict[int, str] = KINDS) -> Path:
    lines = [
        "name,image_class",
        *(f"scene{i},{('healthy', 'ill')[i % 2]}" for i in range(n_images)),
    ]
    write_folder(folder, n_images, lines)
    (folder / "classes").mkdir()
    for i in range(n_images):
        write_table(folder, f"scene{i}", kinds)
    return folder


def write_table(folder: Path, name: str, kinds: dict[int, str]) -> Path:
    path = folder / "classes" / f"{name}.csv"
    rows = [f"{label},{kind}" for label, kind in kinds.items()]
    path.write_text("\n".join(["label,class", *rows]) + "\n")
    return path


def test_tables_become_numbers_of_a_sorted_list(tmp_path: Path) -> None:
    data = find_data([write_classed(tmp_path / "discs")])
    assert data.classes == ("debris", "mitosis", "nucleus")
    assert data.image_classes == ("healthy", "ill")
    assert data.unclassed == ()
    read = data.samples[0].read_annotated(data.classes)
    assert read.classes.tolist() == [0, 2, 1, 2, 0, 1, 2]
    assert data.samples[0].read_annotated().classes.tolist() == [0] * 7
    given = ("nucleus", "mitosis", "debris", "never")
    again = find_data([tmp_path / "discs"], classes=given)
    assert again.classes == given
    assert again.samples[0].read_annotated(given).classes.tolist() == [0, 0, 1, 0, 2, 1, 0]


def test_lists_are_joined_whatever_the_order_and_the_split(tmp_path: Path) -> None:
    first = write_classed(tmp_path / "a", 3, {1: "zebra"})
    second = write_classed(tmp_path / "b", 1, {1: "ant"})
    plain = write_folder(tmp_path / "c", 1)
    write_table(first, "scene2", {1: "lion"})
    (first / "index.csv").write_text("name,split\nscene0,train\nscene1,train\nscene2,val\n")
    expected = ("ant", "lion", "zebra")
    assert find_data([first, second]).classes == expected
    data = find_data([plain, second, first], "train")
    assert data.classes == expected
    assert data.unclassed == ("c",)


def test_classes_follow_objects_into_crops_and_batches(tmp_path: Path) -> None:
    """Each class has a brightness of its own, so the pixels tell what the number must be."""
    folder = write_classed(tmp_path / "discs", 2)
    data = find_data([folder])
    for i in range(2):
        labels = disc_labels(seed=i)
        numbers = np.array([0, *(data.classes.index(k) + 1 for k in KINDS.values())])
        save(folder / "images" / f"scene{i}.png", (numbers[labels] * 60).astype(np.uint8))
    crops = CropDataset(data.samples, CONFIG, 32.0, data.classes, data.image_classes)
    still = AugmentConfig(
        rotate_probability=0, invert_probability=0, tint_probability=0, gamma_log_max=0,
        contrast_max=0, blur_probability=0, noise_probability=0, shading_probability=0,
    )  # fmt: skip
    seen: set[int] = set()
    for seed in range(12):
        image = crops.images[seed % 2]
        crop = draw_crop(image, 112, 32.0, still, np.random.default_rng(seed))
        assert crop.image_class == seed % 2
        assert len(crop.classes) == len(crop.boxes_yxyx_px)
        levels = [
            crop.image_cyx[0][crop.labels_yx == k + 1].mean() for k in range(len(crop.classes))
        ]
        order = np.argsort(levels, kind="stable")
        assert (np.diff(crop.classes[order]) >= 0).all()
        seen |= set(crop.classes.tolist())
    assert seen == {0, 1, 2}
    assert crops.object_counts() == [2, 4, 6]
    assert crops.image_counts() == [1, 1]
    _, targets = collate([crops[0], crops[1]])
    for target in targets:
        assert target.classes.dtype == target.image_class.dtype == torch.int64
        assert target.image_class.shape == ()
        assert int(target.image_class) in (0, 1)


def test_without_lists_all_are_of_one_class(tmp_path: Path) -> None:
    crops = CropDataset(find_data([write_classed(tmp_path / "a")]).samples, CONFIG, 32.0)
    _, targets = collate([crops[i] for i in range(4)])
    assert not any(target.classes.any() for target in targets)
    assert all(target.image_class is None for target in targets)
    assert crops.object_counts() == [12]


def test_generated_images_are_of_class_0_and_of_no_image_class(tmp_path: Path) -> None:
    config = TrainConfig(steps=1, crop_px=112, generated_share=1.0)
    data = find_data([write_classed(tmp_path / "a")])
    crop = CropDataset(data.samples, config, 32.0, data.classes, data.image_classes)[3]
    assert not crop.classes.any()
    assert crop.image_class is None


def test_pieces_of_a_reused_id_share_its_class(tmp_path: Path) -> None:
    folder = write_classed(tmp_path / "a", 1, {4_000_000_000: "mitosis", 9: "debris"})
    labels = np.zeros((200, 200), np.uint32)
    labels[:20, :20] = labels[:20, 150:165] = 4_000_000_000
    labels[100:110, :10] = 9
    save(folder / "images" / "scene0.png", image_of(labels))
    (folder / "labels" / "scene0.png").unlink()
    save(folder / "labels" / "scene0.tif", labels)
    data = find_data([folder])
    image = AnnotatedImage.read(data.samples[0], data.classes)
    assert image.repairs
    at = [image.labels_yx[y, x] for y, x in ((0, 0), (0, 150), (100, 0))]
    assert len(set(at)) == 3
    assert [data.classes[image.classes[k]] for k in at] == ["mitosis", "mitosis", "debris"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,kind\n1,a\n", "column 'class'"),
        ("", "column 'label'"),
        ("label,class\n1,a\n1,b\n", "line 3"),
        ("label,class\n0,a\n", "line 2"),
        ("label,class\n-4,a\n", "line 2"),
        ("label,class\n1.5,a\n", "line 2"),
        ("label,class\n1,\n", "line 2"),
        ("label,class\n1\n", "line 2"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    folder = write_classed(tmp_path / "a")
    (folder / "classes" / "scene1.csv").write_text(text)
    with pytest.raises(DataError, match=message) as raised:
        find_data([folder])
    assert "scene1.csv" in str(raised.value)


def test_a_class_outside_the_list_names_file_object_and_class(tmp_path: Path) -> None:
    folder = write_classed(tmp_path / "a")
    with pytest.raises(DataError, match=r"nucleus, mitosis; got .*'debris' of object 4 in .*csv"):
        find_data([folder], classes=["nucleus", "mitosis"])
    with pytest.raises(DataError, match=r"'ill' of the image .*scene1"):
        find_data([folder], image_classes=["healthy"])
    with pytest.raises(DataError, match="each once"):
        find_data([folder], classes=["nucleus", "nucleus"])
    sample = find_data([folder]).samples[0]
    with pytest.raises(DataError, match=r"'mitosis' of object 2 in .*scene0\.csv"):
        sample.read_annotated(["nucleus"])


def test_objects_without_a_class(tmp_path: Path) -> None:
    folder = write_classed(tmp_path / "a")
    write_table(folder, "scene1", {k: v for k, v in KINDS.items() if k != 5})
    data = find_data([folder])
    with pytest.raises(DataError, match=r"none for object 5 in .*scene1\.csv"):
        CropDataset(data.samples, CONFIG, 32.0, data.classes)
    plain = find_data([folder, write_folder(tmp_path / "plain", 1)])
    with pytest.raises(DataError, match="data set without any, 'plain'"):
        plain.samples[-1].read_annotated(plain.classes)
    assert len(CropDataset(plain.samples, CONFIG, 32.0).images) == 3


CATEGORIES = [
    {"id": 0, "name": "cells", "supercategory": "none"},
    {"id": 4, "name": "round", "supercategory": "cells"},
    {"id": 9, "name": "long", "supercategory": "cells"},
    {"id": 11, "name": "absent", "supercategory": "cells"},
]


def write_coco_kinds(file: Path, **changes: Any) -> Path:
    labels = disc_labels(4)
    annotations = annotate(labels, to_polygons, 0)
    for i, annotation in enumerate(annotations):
        annotation["category_id"] = (4, 9)[i % 2]
    content = {"annotations": annotations, "categories": CATEGORIES} | changes
    return write_coco(file, {"x.png": labels}, **content)


def test_coco_categories_are_classes(tmp_path: Path) -> None:
    data = find_data([write_coco_kinds(tmp_path / "a.json")])
    # the heading of the others is none
    assert data.classes == ("absent", "long", "round")
    read = data.samples[0].read_annotated(data.classes)
    assert read.classes.tolist() == [0, 2, 1, 2, 1]
    with pytest.raises(DataError, match=r"'long' of annotation 1002 in .*a\.json"):
        find_data([tmp_path / "a.json"], classes=["round"])
    assert not data.samples[0].read_annotated().classes.any()


def test_coco_without_usable_categories(tmp_path: Path) -> None:
    unnamed = find_data([write_coco_kinds(tmp_path / "a.json", categories=[{"id": 4}])])
    assert unnamed.classes == ("4", "9")
    without = annotate(disc_labels(4), to_polygons, 0)
    without[2].pop("category_id")
    data = find_data([write_coco_kinds(tmp_path / "b.json", annotations=without)])
    assert data.unclassed == ("b",)
    with pytest.raises(DataError, match=r"none for annotation 1003 in .*b\.json"):
        data.samples[0].read_annotated(["1", *data.classes])
    assert not find_data([write_coco_kinds(tmp_path / "c.json")]).unclassed
