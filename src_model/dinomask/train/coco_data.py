"""Data sets that are annotated in COCO's json.

A data set is a json file, or a folder that holds one, or one for each split
(``…train….json``, ``…val….json``, ``…test….json``, or in folders of these
names). Image files are looked for by the ``file_name`` of their record: beside
the json, in its folder ``images``, then anywhere below. LIVECell's download is
found as it unpacks: ``livecell_coco_SPLIT.json`` anywhere, images in folders
of their own or one folder a cell type.

The category of an annotation is the object's class. Images without annotations
are images without objects.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dinomask.errors import DataError
from dinomask.train.classes import coco_categories
from dinomask.train.coco_masks import CocoLabels, parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_SPLITS = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}
_SPLITS |= {name: name for name in ("train", "val", "test")}
_LIVECELL_JSON = "livecell_coco_*.json"
_LIVECELL_IMAGE = re.compile(r"([A-Za-z0-9]+)_Phase_")


@dataclasses.dataclass(frozen=True)
class CocoImage:
    """One annotated image of a COCO data set.

    Attributes
    ----------
    name : the file's, without suffix; with its folders where two are the same
    path : of the image
    labels : its objects
    split : of its json file; None where neither file nor folder names one
    modality : LIVECell's cell type, or the folder where images lie in several
    categories : names of the classes of its json file
    """

    name: str
    path: Path
    labels: CocoLabels
    split: str | None
    modality: str | None
    categories: tuple[str, ...]


def coco_files(data: Path) -> list[Path]:
    """List the json files of a data set; none if it is no COCO data set.

    Parameters
    ----------
    data : a folder or a json file
    """
    if data.suffix.lower() == ".json":
        return [data]
    if not data.is_dir() or (data / "labels").is_dir():
        return []
    livecell = [p for p in sorted(data.rglob(_LIVECELL_JSON)) if split_of(p, data)]
    if livecell:
        return livecell
    found = [*data.glob("*.json"), *data.glob("*/*.json")]
    return sorted(p for p in found if not p.name.startswith("."))


def split_of(path: Path, data: Path) -> str | None:
    """Return train, val or test, as a json's own name or its folder's says it."""
    names = [path.stem, *path.relative_to(data).parts[-2::-1]]
    # letters only: instances_val2017 says val
    words = [word for name in names for word in re.findall("[a-z]+", name.lower())]
    return next((_SPLITS[word] for word in words if word in _SPLITS), None)


def read_coco(data: Path, split: str | None = None) -> list[CocoImage]:
    """Read the annotations of a COCO data set.

    Parameters
    ----------
    data : a json file, or a folder as described above
    split : only read the json of this split, where there is one

    Raises
    ------
    DataError
        If a json can't be read or isn't in COCO's format, an image file is
        missing, an annotation names an unknown image or has no usable mask,
        or two files hold annotations of one split.
    """
    files = coco_files(data)
    # the files of a large data set take long to read
    contents = _load_all(f for f in files if split is None or split_of(f, data) == split)
    if split is not None and not contents:
        contents = _load_all(files)
    if not contents:
        raise DataError(
            expected=f"annotated images in COCO's format in {data}",
            got=f"{len(files)} json files without 'images' and 'annotations' with masks",
            remedy="Export the annotations as COCO json with masks or polygons, or put label"
            " images into the folder 'labels'.",
        )
    _check_one_each(data, list(contents))
    images = [
        image
        for file, content in contents.items()
        for image in _images(file, content, split_of(file, data))
    ]
    return _with_own_names(data, images)


def _load_all(files: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    return {file: content for file in files if (content := _load(file)) is not None}


def _load(file: Path) -> dict[str, Any] | None:
    """Read a json file; None for other programs' files and annotations without masks."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            expected="a readable COCO json",
            got=f"{file}: {error}",
            remedy="Check the file, or export or download it again.",
        ) from error
    if not isinstance(content, dict):
        return None
    annotations = content.get("annotations")
    if isinstance(annotations, dict):
        # some files of LIVECell key their annotations by id
        annotations = list(annotations.values())
    images = content.get("images")
    if not isinstance(images, list) or not isinstance(annotations, list):
        return None
    if not all(isinstance(record, dict) for record in [*images, *annotations]):
        return None
    if annotations and not any("segmentation" in a for a in annotations):
        return None
    categories = content.get("categories")
    listed = categories if isinstance(categories, list) else []
    return {"images": images, "annotations": annotations, "categories": listed}


def _check_one_each(data: Path, files: Sequence[Path]) -> None:
    splits = [split_of(file, data) for file in files]
    if len(set(splits)) < len(splits):
        raise DataError(
            expected=f"one json with annotations in {data}, or one for each of train, val and test",
            got=", ".join(str(f.relative_to(data)) for f in files),
            remedy="Give the one that you mean instead of the folder.",
        )


def _images(file: Path, content: dict[str, Any], split: str | None) -> list[CocoImage]:
    """Join the image records of one json with their annotations and files."""
    records = {_field(r, "id", file): r for r in content["images"]}
    if len(records) < len(content["images"]):
        raise DataError(
            expected=f"each image id once in {file}",
            got=f"{len(content['images'])} images with {len(records)} ids",
            remedy="Give each image an id of its own.",
        )
    used = [n for a in content["annotations"] if isinstance(n := a.get("category_id"), int | str)]
    categories = coco_categories(content["categories"], used)
    objects: dict[object, list[Any]] = {number: [] for number in records}
    for annotation in content["annotations"]:
        number = _field(annotation, "image_id", file)
        if number not in objects:
            raise DataError(
                expected=f"annotations of the {len(records)} images in {file}",
                got=f"the annotation {annotation.get('id')} of an unknown image {number}",
                remedy="Add the image's record, or remove the annotation.",
            )
        objects[number].append(parse_object(annotation, categories))
    paths = _find_images(file, [str(_field(r, "file_name", file)) for r in records.values()])
    several = len({path.parent for path in paths}) > 1
    return [
        CocoImage(
            path.stem,
            path,
            CocoLabels(str(file), _size(record), tuple(objects[number])),
            split,
            _modality(path, several),
            tuple(categories.values()),
        )
        for (number, record), path in zip(records.items(), paths, strict=True)
    ]


def _field(record: dict[str, Any], name: str, file: Path) -> Any:
    value = record.get(name)
    if isinstance(value, str | int):
        return value
    raise DataError(
        expected=f"a number or text under {name!r}",
        got=f"{value!r} in the record {str(record)[:60]} of {file}",
        remedy="Export the annotations again as COCO json.",
    )


def _size(record: dict[str, Any]) -> tuple[int, int] | None:
    height, width = record.get("height"), record.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _modality(path: Path, several_folders: bool) -> str | None:
    cell_type = _LIVECELL_IMAGE.match(path.name)
    if cell_type:
        return cell_type.group(1)
    return path.parent.name if several_folders else None


def _find_images(file: Path, names: Sequence[str]) -> list[Path]:
    """Find the image files of a json.

    Raises
    ------
    DataError
        If one is missing, or two files could be meant.
    """
    root = _root(file)
    below = functools.cache(lambda: _by_file_name(root))
    found = [_find_image(file, root, name.replace("\\", "/"), below) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        raise DataError(
            expected=f"the images of {file} in {root} or below",
            got=f"no file {missing[0]} ({len(missing)} missing in all)",
            remedy="Put the images beside the json, or in a folder 'images' there.",
        )
    return [path for path in found if path is not None]


def _root(file: Path) -> Path:
    """Return the folder that holds the images: the json's, or the one above 'annotations'."""
    absolute = file.absolute()
    for folder in absolute.parents:
        if folder.name.lower() == "annotations":
            return folder.parent
    return absolute.parent


def _by_file_name(root: Path) -> dict[str, list[Path]]:
    table: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        # names with a dot in front are other programs' notes, such as macOS's ._NAME.png
        if not path.name.startswith("."):
            table.setdefault(path.name, []).append(path)
    return table


def _find_image(
    file: Path, root: Path, name: str, below: Callable[[], dict[str, list[Path]]]
) -> Path | None:
    for folder in (file.parent, root, root / "images"):
        if (folder / name).is_file():
            return folder / name
    parts = PurePosixPath(name).parts
    if not parts:
        return None
    candidates = below().get(parts[-1], [])
    # the record's folders may be those of another machine, but where they fit they decide
    fitting = [p for p in candidates if p.parts[-len(parts) :] == parts] or candidates
    if len(fitting) > 1:
        raise DataError(
            expected=f"one file {name} below {root}",
            got=" and ".join(str(p.relative_to(root)) for p in fitting[:2]),
            remedy="Write the folder into the json's file_name, or keep one of them.",
        )
    return fitting[0] if fitting else None


def _with_own_names(data: Path, images: Sequence[CocoImage]) -> list[CocoImage]:
    """Put the folder before names that occur twice."""
    count = Counter(image.name for image in images)
    named = [
        dataclasses.replace(image, name=f"{image.path.parent.name}_{image.name}")
        if count[image.name] > 1
        else image
        for image in images
    ]
    name, n = Counter(image.name for image in named).most_common(1)[0] if named else ("", 0)
    if n > 1:
        raise DataError(
            expected=f"each image of {data} once, under a name of its own",
            got=f"{name!r} {n} times",
            remedy="Remove the doubles, so that no image is in two splits.",
        )
    return named
