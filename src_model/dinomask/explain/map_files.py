"""Maps of objects in files, so that new objects can be placed into them later.

A map is one safetensors file: positions and features of its objects and, as text, its
settings. Reading it runs nothing that is in it.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import numpy as np

from dinomask.config import MapConfig
from dinomask.errors import ExplainError, SettingsError
from dinomask.explain.embedding import ObjectMap
from dinomask.tiles.outputs import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.instances import Array

MAP_SUFFIX = ".safetensors"

_KIND = "dinomask-object-map"


def save_map(found: ObjectMap, path: Path) -> None:
    """Write a map, with the features that it was made of; replaces an earlier one.

    Raises
    ------
    OutputError
        If it can't be written.
    """
    from safetensors.numpy import save_file

    names, image = np.unique(found.images, return_inverse=True)
    tensors: dict[str, Array] = {
        "positions": np.ascontiguousarray(found.positions, np.float32),
        "vectors": np.ascontiguousarray(found.vectors, np.float32),
        "ids": np.ascontiguousarray(found.ids, np.int64),
        "image": np.ascontiguousarray(image, np.int64),
    }
    if found.axes is not None:
        tensors["axes"] = np.ascontiguousarray(found.axes, np.float64)
    about = {
        "kind": _KIND,
        "images": names.tolist(),
        "config": dataclasses.asdict(found.config),
        "layer": found.layer,
        "model": dict(found.model),
        "notes": list(found.notes),
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"dinomask": json.dumps(about)})


def load_map(path: Path) -> ObjectMap:
    """Read what `save_map` wrote.

    Raises
    ------
    ExplainError
        If it is missing, damaged or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["dinomask"])
            if about["kind"] != _KIND:
                raise KeyError(about["kind"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        names = np.array(about["images"], str)
        return ObjectMap(
            positions=tensors["positions"],
            vectors=tensors["vectors"],
            ids=tensors["ids"],
            images=names[tensors["image"]] if len(names) else np.zeros(0, str),
            config=MapConfig(**about["config"]),
            layer=int(about["layer"]),
            model=about["model"],
            axes=tensors.get("axes"),
            notes=tuple(about["notes"]),
        )
    except (
        *(OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError, SettingsError),
    ) as error:
        raise ExplainError(
            expected="a map of objects, written by dinomask explain umap --save-map",
            got=str(path),
            remedy="Choose another file, or lay the objects out anew.",
        ) from error
