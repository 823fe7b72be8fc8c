"""The preview of a run: what a tile owns is drawn as the result will be."""

from __future__ import annotations

import numpy as np
import pytest

from dinomask.instances import Instances
from dinomask.tiles import preview as module
from dinomask.tiles.preview import Preview
from dinomask.tiles.render import render_window
from dinomask.tiles.stitch import Stitched


def _found(*boxes) -> Instances:
    n = len(boxes)
    return Instances(
        np.array(boxes, np.float32).reshape(n, 4),
        np.full(n, 0.9, np.float32),
        np.zeros(n, np.int32),
        np.full((n, 28, 28), 255, np.uint8),
    )


@pytest.mark.parametrize("in_memory", [True, False])
def test_tiles_are_drawn_into_their_cores_at_all_levels(monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(module, "IN_MEMORY_PX", 1000)
    preview = Preview((700, 1300))
    left, right = _found((10, 20, 50, 60), (100, 600, 200, 720)), _found((300, 900, 400, 1000))
    assert preview.draw((0.0, 0.0, 700.0, 650.4), left)
    assert preview.draw((0.0, 650.4, 700.0, 1300.0), right)
    assert not preview.draw((0.0, 0.0, 5.0, 5.0), Instances.empty())
    labels_yx = np.asarray(preview.levels[0][...])
    stitched = Stitched(left, np.zeros(2, np.int64), np.array([1, 2], np.uint32), 0)
    np.testing.assert_array_equal(labels_yx[:, :650], render_window(stitched, (0, 0, 700, 650)))
    # what reaches over the border belongs to the neighbour, who sees it too
    assert not labels_yx[100:200, 650:720].any()
    assert set(np.unique(labels_yx)) == {0, 1, 2, 3}
    for k, level in enumerate(preview.levels):
        np.testing.assert_array_equal(level[...], labels_yx[:: 2**k, :: 2**k])
    preview.close()
    assert not preview._folder
    preview.draw((0.0, 0.0, 700.0, 650.4), left)


@pytest.mark.parametrize("in_memory", [True, False])
def test_tiles_of_planes_are_drawn_into_theirs(monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(module, "IN_MEMORY_PX", 1000)
    preview, one = Preview((600, 700), (2, 3)), Preview((600, 700))
    found = _found((10, 20, 50, 60), (300, 500, 400, 600))
    preview.draw((0.0, 0.0, 600.0, 700.0), found, (1, 2))
    one.draw((0.0, 0.0, 600.0, 700.0), found)
    assert preview.levels[0].shape == (2, 3, 600, 700)
    for level, plane in zip(preview.levels, one.levels, strict=True):
        np.testing.assert_array_equal(level[1, 2], plane[...])
        assert np.count_nonzero(level[...]) == np.count_nonzero(plane[...])
    # a movie of a thousand planes must not fill the memory with its coarsest level
    assert in_memory == isinstance(preview.levels[-1], np.ndarray)
    preview.close()
    one.close()


def test_an_image_too_large_for_the_disk_is_drawn_smaller(monkeypatch):
    monkeypatch.setattr(module, "LARGEST_SIDE_PX", 256)
    preview = Preview((300, 1000))
    assert preview.factor == 4
    assert preview.levels[0].shape == (75, 250)
    preview.draw((0.0, 0.0, 300.0, 500.0), _found((40, 80, 120, 240)))
    expected = np.zeros((75, 250), bool)
    expected[10:30, 20:60] = True
    np.testing.assert_array_equal(np.asarray(preview.levels[0]) > 0, expected)
    preview.close()


def test_planning_a_preview_of_a_huge_image_costs_nothing():
    preview = Preview((1_000_000, 1_000_000))
    preview.draw((500_000.0, 500_000.0, 500_400.0, 500_400.0), _found((5e5, 5e5, 500_200, 500_200)))
    assert np.asarray(preview.levels[0][62_500:62_525, 62_500:62_525]).all()
    preview.close()
