"""Images of many kinds with known pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture
def pixels_cyx() -> NDArray[np.uint16]:
    """Three channels of odd size, every value different from its neighbours."""
    return np.random.default_rng(0).integers(0, 60_000, (3, 131, 97), dtype=np.uint16)


@pytest.fixture
def pixels_yxs() -> NDArray[np.uint8]:
    """A colour picture."""
    return np.random.default_rng(1).integers(0, 256, (53, 71, 3), dtype=np.uint8)


@pytest.fixture
def write_ome_zarr() -> Callable[..., None]:
    """Write a three-level OME-Zarr 0.4 or 0.5 of an array with the axes c, y, x."""

    def write(
        path: Path, image_cyx: NDArray[Any], version: str, unit: str = "micrometer", **extra: Any
    ) -> None:
        zarr_format = 2 if version == "0.4" else 3
        group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
        datasets = []
        for level in range(3):
            step = 2**level
            data = image_cyx[:, ::step, ::step]
            names = None if version == "0.4" else ["c", "y", "x"]
            group.create_array(str(level), data=data, chunks=(1, 32, 32), dimension_names=names)
            scale = {"type": "scale", "scale": [1.0, 0.25 * step, 0.5 * step]}
            datasets.append({"path": str(level), "coordinateTransformations": [scale]})
        axes = [
            {"name": "c", "type": "channel"},
            {"name": "y", "type": "space", "unit": unit},
            {"name": "x", "type": "space", "unit": unit},
        ]
        multiscale = {"name": "image", "axes": axes, "datasets": datasets}
        if version == "0.4":
            group.attrs.update({"multiscales": [{**multiscale, "version": "0.4"}], **extra})
        else:
            group.attrs["ome"] = {"version": version, "multiscales": [multiscale], **extra}

    return write
