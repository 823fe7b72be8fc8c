"""Changes of tiles: repeatable, of one shape, and labels stay with what they name."""

from __future__ import annotations

import numpy as np
import pytest

from dinomask.compress.bench.shake import SHAKES, shake
from dinomask.image.resample import PAD_VALUE


@pytest.fixture
def tiles() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:112, :112]
    labels = ((y - 40) ** 2 + (x - 70) ** 2 < 150).astype(np.int32)
    tile = np.repeat(labels[None].astype(np.float32), 3, axis=0)
    return np.stack([tile, tile]), np.stack([labels, labels])


@pytest.mark.parametrize("kind", ["clean", *SHAKES])
def test_shape_type_and_chance(kind: str, tiles: tuple[np.ndarray, np.ndarray]) -> None:
    shaken, labels = shake(kind, *tiles)
    again, _ = shake(kind, *tiles)
    assert shaken.shape == tiles[0].shape
    assert shaken.dtype == np.float32
    assert labels.shape == tiles[1].shape
    assert np.array_equal(shaken, again)
    assert np.array_equal(shaken, tiles[0]) == (kind == "clean")


def test_what_turns_turns_with_its_label(tiles: tuple[np.ndarray, np.ndarray]) -> None:
    shaken, labels = shake("rotation", *tiles)
    known = labels[0] >= 0
    assert known.mean() > 0.7
    bright = shaken[0, 0] > 0.5
    assert np.count_nonzero((bright != (labels[0] == 1)) & known) < 20


def test_masks_hide_about_their_share() -> None:
    tile = np.ones((8, 3, 448, 448), np.float32)
    shaken, _ = shake("masked", tile, np.zeros((8, 448, 448), np.int32))
    assert 0.06 < np.mean(shaken == PAD_VALUE) < 0.14
