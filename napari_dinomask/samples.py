"""Sample images of the plugin: File › Open Sample › DINOmask. All of them work offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tifffile
from skimage import data

from dinomask.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    LayerData = tuple[npt.NDArray[Any], dict[str, Any], str]

SAMPLE_FOLDER = Path(__file__).parent / "sample_data"
"""The generated images; a link to the repository's folder, plain files when installed."""


def load_nuclei() -> list[LayerData]:
    """Return generated fluorescent nuclei: shape (512, 512), uint16, 0.5 µm a pixel."""
    return [_read_generated("nuclei", pixel_size_um=0.5)]


def load_phase_cells() -> list[LayerData]:
    """Return generated phase-contrast cells: shape (512, 512), uint8, 0.65 µm a pixel."""
    return [_read_generated("phase_cells", pixel_size_um=0.65)]


def load_histology() -> list[LayerData]:
    """Return generated tissue in H&E: shape (400, 400, 3), uint8, 0.25 µm a pixel."""
    return [_read_generated("histology", pixel_size_um=0.25)]


def load_cell() -> list[LayerData]:
    """Return scikit-image's cell in saline: shape (660, 550), uint8, pixel size unknown."""
    return [(data.cell(), {"name": "cell"}, "image")]


def load_immunohistochemistry() -> list[LayerData]:
    """Return scikit-image's stained colon: shape (512, 512, 3), uint8, pixel size unknown."""
    image_yxc = data.immunohistochemistry()
    return [(image_yxc, {"name": "immunohistochemistry", "rgb": True}, "image")]


def load_coins() -> list[LayerData]:
    """Return scikit-image's coins, objects that are no cells: shape (303, 384), uint8."""
    return [(data.coins(), {"name": "coins"}, "image")]


def _read_generated(name: str, pixel_size_um: float) -> LayerData:
    path = SAMPLE_FOLDER / f"{name}.tif"
    if not path.is_file():
        raise InputError(
            expected=f"the sample image {path}",
            got="no such file",
            remedy="Clone again with git's core.symlinks set to true, or install the wheel.",
        )
    image = tifffile.imread(path)
    metadata = {
        "name": name,
        "rgb": image.ndim == 3,
        "scale": (pixel_size_um, pixel_size_um),
        "units": ("µm", "µm"),
    }
    return image, metadata, "image"
