from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dinomask.errors import AxesError, InputError
from dinomask.image.source import open_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

STACK = np.random.default_rng(0).integers(0, 60_000, (4, 23, 31), dtype=np.uint16)


def layer(data: Any, **known: Any) -> Any:
    base = {"data": data, "multiscale": False, "rgb": False, "scale": (1.0, 1.0), "name": "cells"}
    return SimpleNamespace(**base | known)


def test_layers_bring_their_pixel_size_and_name() -> None:
    image = open_image(layer(STACK[0], scale=(250, 500), units=("nanometer", "nanometer")))
    assert image.pixel_size_um == pytest.approx((0.25, 0.5))
    assert image.name == "cells"
    assert open_image(layer(STACK[0], units=("pixel", "pixel"))).pixel_size_um is None


def test_layers_of_every_kind_are_told_apart(pixels_yxs: NDArray[np.uint8]) -> None:
    colour = open_image(layer(pixels_yxs.astype("f4"), rgb=True))
    assert (colour.is_rgb, colour.n_channels) == (True, 3)
    # three columns of 8-bit pixels are no colour when napari says so
    with pytest.raises(AxesError):
        open_image(layer(pixels_yxs, scale=(1, 1, 1), axis_labels=("-3", "-2", "-1")))
    named = layer(STACK, scale=(1, 1, 1), axis_labels=("z", "y", "x"))
    assert open_image(named, plane={"z": 2}).axes == "zyx"


def test_real_napari_layers_are_read() -> None:
    layers = pytest.importorskip("napari.layers")
    flat = STACK[0]
    real = layers.Image([flat, flat[::2, ::2]], scale=(2, 2), units=("um", "um"), name="deep")
    image = open_image(real)
    assert image.pixel_size_um == pytest.approx((2, 2))
    assert len(image.levels) == len(open_image(real.data).levels) == 2
    np.testing.assert_array_equal(image.read((0, 0, 12, 16), 1)[0], flat[::2, ::2])
    with pytest.raises(InputError, match="Labels layer"):
        open_image(layers.Labels(np.zeros((4, 4), int)))
    with pytest.raises(InputError, match="Points layer"):
        open_image(layers.Points(np.zeros((4, 2))))
