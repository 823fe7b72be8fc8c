from __future__ import annotations

import imageio.v3 as imageio
import numpy as np

from dinomask.image import open_image
from dinomask.instances import Instances
from dinomask.run.overlay import MAX_SIDE_PX, MIN_SIDE_PX, draw_overlay, hues, write_overlay
from dinomask.tiles.stitch import Stitched


def stitched(boxes):
    n = len(boxes)
    found = Instances(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.ones(n, np.float32),
        np.zeros(n, np.int32),
        np.full((n, 28, 28), 255, np.uint8),
    )
    return Stitched(found, np.zeros(n, np.int64), np.arange(1, n + 1, dtype=np.uint32), 0)


def test_instances_are_coloured_and_the_rest_is_the_image(tmp_path):
    pixels = np.tile(np.arange(100, dtype=np.uint8), (80, 1))
    write_overlay(open_image(pixels), stitched([[20, 30, 40, 60]]), tmp_path / "o.png")
    picture = imageio.imread(tmp_path / "o.png")
    assert max(picture.shape) == MIN_SIDE_PX
    scale = MIN_SIDE_PX / 100
    coloured = np.ptp(picture.astype(int), axis=2) > 20
    y, x = np.nonzero(coloured)
    expected = np.array([20, 30, 40, 60]) * scale
    np.testing.assert_allclose([y.min(), x.min(), y.max() + 1, x.max() + 1], expected, atol=2)


def test_large_images_are_reduced():
    pixels = np.zeros((300, 5000), np.uint8)
    pixels[100:200, 100:300] = 200
    assert draw_overlay(open_image(pixels), stitched([])).shape[1] == MAX_SIDE_PX


def test_colours_differ_between_neighbouring_ids():
    colours = hues(50)
    assert len(np.unique(colours.round(4), axis=0)) == 51
    assert np.abs(np.diff(colours[1:], axis=0)).sum(1).min() > 0.3
