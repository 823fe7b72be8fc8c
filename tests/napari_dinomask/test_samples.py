"""The sample images: all offline, as napari layers, and reproducible from their recipe."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from napari.layers import Image, Layer
from scipy import ndimage

from napari_dinomask import samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_dinomask.samples import LayerData

GENERATED = ("nuclei", "phase_cells", "histology")
LOADERS = [getattr(samples, name) for name in dir(samples) if name.startswith("load_")]


@pytest.fixture(scope="module")
def fresh_folder(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    recipe = repository / "sample_data" / "make_samples.py"
    subprocess.run([sys.executable, recipe, folder], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("load", LOADERS)
def test_sample_becomes_one_image_layer(load: Callable[[], list[LayerData]]) -> None:
    (layer_data,) = load()
    layer = Layer.create(*layer_data)
    assert isinstance(layer, Image)
    assert layer.rgb == (layer.data.ndim == 3)
    assert np.std(layer.data) > 5


@pytest.mark.parametrize("name", GENERATED)
def test_generated_layer_has_the_pixel_size_of_its_file(name: str, repository: Path) -> None:
    ((_, metadata, _),) = getattr(samples, f"load_{name}")()
    with tifffile.TiffFile(repository / "sample_data" / f"{name}.tif") as file:
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert metadata["scale"] == (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"])
    assert pixels["PhysicalSizeXUnit"] == "µm"


@pytest.mark.parametrize("name", GENERATED)
def test_shipped_file_is_what_its_recipe_makes(
    name: str, fresh_folder: Path, repository: Path
) -> None:
    shipped, made = (
        tifffile.imread(folder / f"{name}.tif").astype(int)
        for folder in (repository / "sample_data", fresh_folder)
    )
    # filters may round differently on another machine
    assert np.mean(shipped != made) < 0.01
    shipped_labels, made_labels = (
        tifffile.imread(folder / f"{name}_labels.tif")
        for folder in (repository / "sample_data", fresh_folder)
    )
    assert np.mean(shipped_labels != made_labels) < 1e-3


@pytest.mark.parametrize("name", GENERATED)
def test_every_label_is_one_connected_object(name: str, repository: Path) -> None:
    labels_yx = tifffile.imread(repository / "sample_data" / f"{name}_labels.tif")
    count = int(labels_yx.max())
    assert count > 50
    for label in range(1, count + 1):
        assert ndimage.label(labels_yx == label)[1] == 1


def test_missing_sample_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(samples, "SAMPLE_FOLDER", tmp_path)
    with pytest.raises(samples.InputError, match="install the wheel"):
        samples.load_nuclei()
