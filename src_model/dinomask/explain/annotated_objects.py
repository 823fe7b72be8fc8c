"""Objects of annotated folders and of images with a table of classes, for probes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dinomask.errors import DataError, ExplainError
from dinomask.explain.collect import ImageObjects
from dinomask.image import open_image
from dinomask.train.datasets import find_data

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dinomask.train.samples import Sample

Classes = dict[tuple[str, int], str]
"""Name of an object's class by its image and id."""


def read_annotated(
    folders: Sequence[Path], split: str | None = None, channels: Sequence[int] = ()
) -> tuple[list[ImageObjects], Classes, str]:
    """Read the images of annotated folders, with a class for each object.

    Parameters
    ----------
    folders : as for training: ``images``, ``labels``, or COCO's json
    split : only images of this split; None takes all
    channels : of the images; empty takes all

    Returns
    -------
    images : with their labels, named ``folder/name``
    classes : of the objects; where the folders name none, that of the whole image, else
        its modality
    said : what the classes are, in a few words

    Raises
    ------
    DataError
        If a folder is not laid out so, or gives no classes of any kind.
    """
    data = find_data(folders, split)
    by_object = bool(data.classes) and not data.unclassed
    kinds = ("object_class", "image_class", "modality")
    kind = kinds[0] if by_object else kinds[1] if data.image_classes else kinds[2]
    said = {
        "object_class": "classes of the objects",
        "image_class": "classes of whole images",
        "modality": "modalities of the images",
    }[kind]
    images, classes = [], {}
    for sample in data.samples:
        annotation = sample.read_annotated(data.classes if by_object else ())
        name = f"{sample.dataset}/{sample.name}"
        opened = open_image(sample.image, channels=channels)
        images.append(ImageObjects(opened, annotation.labels_yx, name))
        for label in np.unique(annotation.labels_yx[annotation.labels_yx > 0]).tolist():
            number = int(annotation.classes[label])
            found = data.classes[number] if by_object else _of_image(sample, kind)
            if found is not None:
                classes[name, label] = found
    if len(set(classes.values())) < 2:
        raise DataError(
            expected="annotated objects of at least two classes, image classes or modalities",
            got=", ".join(sorted(set(classes.values()))) or "none",
            remedy="Add classes/NAME.csv with the columns label and class, or a column"
            " image_class or modality to index.csv.",
        )
    return images, classes, said


def _of_image(sample: Sample, kind: str) -> str | None:
    return sample.image_class if kind == "image_class" else sample.modality


def read_classes(path: Path, images: Sequence[str]) -> Classes:
    """Read a table of classes: the columns id and class, and image where there are several.

    Raises
    ------
    ExplainError
        If it can't be read or lacks a column, or names an image that isn't there.
    """
    try:
        read = pd.read_parquet if path.suffix.lower() == ".parquet" else pd.read_csv
        table = read(path)
    except (OSError, ValueError) as error:
        raise ExplainError(
            expected="a table of classes, .csv or .parquet",
            got=f"{path}: {error}",
            remedy="Write one with the columns id and class.",
        ) from error
    if "id" not in table and "label" in table:
        table = table.rename(columns={"label": "id"})
    wanted = ["id", "class", *(["image"] if len(images) > 1 else [])]
    if missing := [name for name in wanted if name not in table]:
        raise ExplainError(
            expected=f"the columns {', '.join(wanted)} in {path}",
            got=f"a table without {', '.join(missing)}",
            remedy="Add them; id is the object's label.",
        )
    table = table.dropna(subset=["id", "class"])
    image = table["image"].astype(str) if "image" in table else [images[0]] * len(table)
    strangers = sorted(set(image) - set(images))
    if strangers:
        raise ExplainError(
            expected=f"images named {', '.join(images)}",
            got=f"{strangers[0]!r} in {path}",
            remedy="Use the images' file names in the column image.",
        )
    keys = zip(image, table["id"].astype(int), strict=True)
    return dict(zip(keys, table["class"].astype(str), strict=True))
