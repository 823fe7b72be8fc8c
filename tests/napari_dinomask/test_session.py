"""Intents and sizes, without a window."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import DetectConfig, SegmentConfig, TileConfig
from dinomask.errors import OutputError, SettingsError
from napari_dinomask.session import (
    LayerFacts,
    SegmentIntent,
    cell_diameter_px,
    choose_output,
    describe_field,
    suggest_output,
)

sides = st.floats(2, 500)
angles = st.floats(0, 2 * math.pi)


def _rotated(points_yx: np.ndarray, angle: float) -> np.ndarray:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return points_yx @ turn.T + [30, -70]


def test_untouched_form_means_the_library_defaults() -> None:
    assert SegmentIntent().resolve() == SegmentConfig()


def test_every_field_of_a_form_reaches_the_settings() -> None:
    config = SegmentIntent("other", "mine", 18.5, "mixed", (1,), 0.3, 224, "cpu").resolve()
    assert (config.model, config.adapter) == ("other", "mine")
    assert (config.diameter_px, config.sizes, config.channels) == (18.5, "mixed", (1,))
    assert (config.detect.score_threshold, config.tiles.tile_px) == (0.3, 224)
    assert config.device == "cpu"


@pytest.mark.parametrize(
    "wrong", [{"diameter_px": -1.0}, {"tile_px": 450}, {"score_threshold": 2.0}]
)
def test_a_wrong_setting_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        dataclasses.replace(SegmentIntent(), **wrong).resolve()


@given(height=sides, width=sides, angle=angles)
def test_a_frame_has_the_diameter_of_the_ellipse_inside(
    height: float, width: float, angle: float
) -> None:
    corners = _rotated(np.array([[0, 0], [0, width], [height, width], [height, 0]]), angle)
    turns = np.linspace(0, 2 * math.pi, 400, endpoint=False)
    outline = np.stack([height / 2 * np.sin(turns), width / 2 * np.cos(turns)], axis=1)
    ellipse = cell_diameter_px("ellipse", corners)
    assert ellipse == pytest.approx(cell_diameter_px("rectangle", corners))
    assert ellipse == pytest.approx(cell_diameter_px("polygon", outline), rel=1e-3)


def test_a_circle_and_a_line_have_their_own_diameter() -> None:
    square = np.array([[5, 5], [5, 25], [25, 25], [25, 5]])
    assert cell_diameter_px("ellipse", square) == pytest.approx(20)
    assert cell_diameter_px("line", np.array([[0, 0], [3, 4]])) == pytest.approx(5)
    assert cell_diameter_px("polygon", square[:1]) == 0


def test_lengths_are_converted_only_where_the_pixel_size_is_known() -> None:
    facts = LayerFacts("cells", (10, 10), 1, False, (0.5, 0.5), ())
    assert facts.to_um(26) == pytest.approx(13)
    assert dataclasses.replace(facts, pixel_size_um=None).to_um(26) is None


@pytest.mark.parametrize(
    ("config", "name", "words"),
    [
        (TileConfig, "tile_px", "multiple of 14"),
        (DetectConfig, "score_threshold", "Lowest score"),
        (SegmentConfig, "diameter_px", "Median diameter"),
    ],
)
def test_tooltips_are_the_docstrings_of_the_settings(config: type, name: str, words: str) -> None:
    assert words in describe_field(config, name)


def test_large_images_need_an_output_and_get_a_name_for_it(tmp_path: Path) -> None:
    small = LayerFacts("cells", (10, 10), 1, False, None, ())
    large = dataclasses.replace(small, shape_yx=(9000, 9000))
    assert choose_output("", small) is None
    assert choose_output(f" {tmp_path}/a.zarr ", small) == tmp_path / "a.zarr"
    with pytest.raises(OutputError, match="Save to"):
        choose_output("", large)
    with pytest.raises(OutputError, match=r"a\.zarr"):
        choose_output("a.tif", small)


def test_all_planes_count_as_one_image() -> None:
    plane = LayerFacts("cells", (4000, 4000), 1, False, None, (("t", 2, 3), ("z", 1, 2)))
    whole = dataclasses.replace(plane, whole=True)
    assert (plane.n_planes, whole.n_planes) == (1, 6)
    assert (plane.is_large, whole.is_large) == (False, True)
    assert suggest_output(plane).name == "cells_t2_z1_labels.zarr"
    assert suggest_output(whole).name == "cells_labels.zarr"
    assert whole.link_axis == "z"
    assert dataclasses.replace(whole, plane=(("t", 2, 3),)).link_axis == "t"
    with pytest.raises(OutputError, match="6 planes of 4,000 × 4,000"):
        choose_output("", whole)


def test_a_suggested_output_stands_beside_the_image_and_names_the_plane(tmp_path: Path) -> None:
    facts = LayerFacts(
        "slide 1/2", (9, 9), 1, False, None, (("z", 3, 9),), 0, tmp_path / "s.ome.tif"
    )
    assert suggest_output(facts) == tmp_path / "s_z3_labels.zarr"
    no_file = dataclasses.replace(facts, path=None, plane=())
    assert suggest_output(no_file) == Path.home() / "slide_1_2_labels.zarr"
