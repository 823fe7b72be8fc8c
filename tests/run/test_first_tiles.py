"""What is on a screen comes first, and is told of as it is found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tifffile

from dinomask.config import SegmentConfig, TileConfig
from dinomask.errors import CancelledError
from dinomask.image import open_image
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment
from dinomask.tiles.plan import plan_tiles

CONFIG = SegmentConfig(diameter_px=26.0, threads=1, tiles=TileConfig(tile_px=224, halo_px=56))


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(CONFIG)


@pytest.fixture(scope="module")
def image(sample_nuclei):
    """Six tiles."""
    return open_image(tifffile.imread(sample_nuclei)[:260, :330])


@pytest.fixture(scope="module")
def plan(image, predictor):
    return plan_tiles(image.shape_yx, predictor.target_diameter_px / 26.0, CONFIG.tiles)


def test_tiles_of_a_window_come_first_and_change_nothing(image, predictor, plan):
    window = (200, 250, 260, 330)
    cores = []
    one = segment(
        image,
        config=CONFIG,
        predictor=predictor,
        first_yxyx_px=window,
        on_tile=lambda core, found, place: cores.append(core),
    )
    first = list(plan.tiles_touching(window))
    rest = [i for i in range(len(plan)) if i not in first]
    assert 0 < len(first) < len(plan)
    assert first != list(range(len(first)))
    assert cores == [plan.core_image_yxyx(plan[i]) for i in (*first, *rest)]
    other = segment(image, config=CONFIG, predictor=predictor)
    assert one.table.equals(other.table)
    np.testing.assert_array_equal(one.labels_yx, other.labels_yx)


def test_tiles_of_an_earlier_run_are_told_of_too(image, predictor, plan, tmp_path):
    out, seen = tmp_path / "o.tif", []

    def stop_after_two(progress):
        if progress.stage == "detect" and progress.done >= 2:
            raise CancelledError(expected="", got="a stop", remedy="")

    with pytest.raises(CancelledError):
        segment(image, out, CONFIG, predictor=predictor, on_progress=stop_after_two)
    progress = []
    result = segment(
        image,
        out,
        dataclasses.replace(CONFIG, batch=1),
        predictor=predictor,
        on_progress=progress.append,
        on_tile=lambda core, found, place: seen.append(core),
    )
    assert result.report["n_resumed"] >= 2
    assert sorted(seen) == sorted(plan.core_image_yxyx(plan[i]) for i in range(len(plan)))
