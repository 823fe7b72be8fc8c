"""What is written: maps at the image's pixels, pictures, tables."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import imageio.v3 as imageio
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from dinomask.errors import OutputError
from dinomask.explain.attention import Heatmap
from dinomask.explain.mosaic import Mosaic
from dinomask.explain.outputs import TABLE_SUFFIXES, check_new, write_table
from dinomask.explain.picture import (
    add_caption,
    add_scale_bar,
    mark_point,
    new_picture,
    round_length,
    show_heat,
    show_pixels,
    write_picture,
)
from dinomask.explain.rasters import Raster, write_raster
from dinomask.explain.seen import GridPlace
from dinomask.image import open_image
from tests.explain.seen_scenes import noise, seen_of
from tests.nets.small import small_model

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.tiles.plan import Tile


def test_a_mosaic_has_each_pixel_of_the_tile_that_owns_it_whatever_the_window() -> None:
    seen = seen_of(small_model(), noise(190, 230), diameter_px=24.0)
    assert len(seen.plan) > 3

    def compute(tile: Tile) -> Heatmap:
        return Heatmap(np.full((8, 8), tile.index + 1.0, np.float32), seen.place(tile, 14.0))

    mosaic = Mosaic.of(seen, compute)
    whole = mosaic.draw((0, 0, 190, 230))[0]
    middles = np.stack(np.mgrid[:190, :230], -1).reshape(-1, 2) + 0.5
    owners = seen.plan.tiles_at(middles).reshape(190, 230)
    assert np.array_equal(whole, owners + 1)
    for y, x in itertools.product((0, 37, 101), (0, 64, 180)):
        piece = mosaic.draw((y, x, y + 50, x + 49))[0]
        assert np.array_equal(piece[:, : 230 - x], whole[y : y + 50, x : x + 49])
    part = Mosaic.of(seen, compute, [1]).draw((0, 0, 190, 230))[0]
    assert np.array_equal(part, np.where(owners == 1, 2, 0))


def raster(rgb: bool = False, shape: tuple[int, int] = (700, 1100)) -> tuple[Raster, np.ndarray]:
    n = 3 if rgb else 2
    values = np.random.default_rng(0).uniform(0, 200, (n, *shape))
    values = values.astype("uint8" if rgb else "float32")
    names = () if rgb else ("a", "b")
    made = Raster(
        lambda w: values[:, w[0] : w[2], w[1] : w[3]],
        (n, *shape),
        values.dtype.name,
        pixel_size_um=(0.5, 0.25),
        channels=names,
        rgb=rgb,
        notes={"layer": 3},
    )
    return made, values


@pytest.mark.parametrize("rgb", [False, True])
def test_a_tiff_holds_the_pixels_and_their_size(rgb: bool, tmp_path: Path) -> None:
    made, values = raster(rgb)
    told: list[tuple[int, int]] = []
    write_raster(made, tmp_path / "a.tif", lambda *step: told.append(step))
    read = tifffile.imread(tmp_path / "a.tif")
    assert np.array_equal(np.moveaxis(read, 2, 0) if rgb else read, values)
    assert told[-1][0] == told[-1][1] == len(told)
    image = open_image(tmp_path / "a.tif", channels=(0, 1, 2) if rgb else (0,))
    assert image.pixel_size_um == pytest.approx((0.5, 0.25))
    assert image.is_rgb == rgb


@pytest.mark.parametrize("rgb", [False, True])
def test_a_zarr_is_a_valid_pyramid(rgb: bool, tmp_path: Path) -> None:
    from ome_zarr_models.v05.image import Image as OmeImage

    made, values = raster(rgb)
    write_raster(made, tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    OmeImage.from_zarr(group)
    assert np.array_equal(group["0"][...], values)
    assert np.array_equal(group["1"][...], values[:, ::2, ::2])
    assert group["2"].shape == (len(values), 175, 275)
    assert open_image(tmp_path / "a.zarr", channels=(0,)).pixel_size_um == pytest.approx(
        (0.5, 0.25)
    )


def test_a_failed_drawing_leaves_nothing(tmp_path: Path) -> None:
    def fail(window: tuple[int, int, int, int]) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_raster(Raster(fail, (1, 10, 10), "float32"), tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


@given(st.floats(1e-3, 1e6))
def test_scale_bars_have_round_lengths(longest: float) -> None:
    length = round_length(longest)
    digits = f"{length:e}".split("e")[0].rstrip("0").rstrip(".")
    assert digits in ("1", "2", "5")
    assert longest / 2.5 - 1e-9 <= length <= longest * (1 + 1e-6)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_pictures_have_a_scale_bar_and_a_caption(suffix: str, tmp_path: Path) -> None:
    window = (0, 0, 60, 80)
    figure, (left, right) = new_picture(2)
    show_pixels(left, noise(60, 80), window)
    show_heat(right, noise(4, 5), GridPlace((-2.0, -2.0), (16.0, 17.0)), window, unit="x")
    add_scale_bar(left, (0.5, 0.5))
    mark_point(right, (20.0, 30.0))
    add_caption(figure, ["what it is", "and of what"])
    # a quarter of 80 px of 0.5 µm
    assert "10 µm" in [text.get_text() for text in left.texts]
    write_picture(figure, tmp_path / f"a{suffix}")
    if suffix == ".svg":
        assert "<svg" in (tmp_path / "a.svg").read_text()
    else:
        picture = imageio.imread(tmp_path / "a.png")
        assert picture.shape[0] > 300
        assert picture[..., :3].std() > 20
    with pytest.raises(OutputError, match=r"ending \.png or \.svg"):
        write_picture(figure, tmp_path / "a.bmp")


def test_unknown_pixel_sizes_are_told_in_pixels() -> None:
    figure, (panel,) = new_picture(1)
    show_pixels(panel, noise(60, 80), (0, 0, 60, 80))
    add_scale_bar(panel, None)
    assert "20 px" in [text.get_text() for text in panel.texts]
    assert figure is panel.figure


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_tables_come_back(suffix: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"layer": [0, 1], "norm": [1.5, float("nan")]})
    path = tmp_path / f"t{suffix}"
    write_table(table, path)
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": pd.read_json}[suffix](path)
    pd.testing.assert_frame_equal(read, table, check_dtype=False)


def test_outputs_are_refused_before_any_work(tmp_path: Path) -> None:
    there = tmp_path / "there.tif"
    there.touch()
    with pytest.raises(OutputError, match="does not exist yet"):
        check_new(there, (".tif",), overwrite=False)
    check_new(there, (".tif",), overwrite=True)
    with pytest.raises(OutputError, match="other than the image itself"):
        check_new(there, (".tif",), overwrite=True, keep=[there])
    with pytest.raises(OutputError, match=r"ending \.tif or \.zarr"):
        check_new(tmp_path / "a.xyz", (".tif", ".zarr"), overwrite=False)
    with pytest.raises(OutputError, match="folder that exists"):
        check_new(tmp_path / "no" / "a.tif", (".tif",), overwrite=False)
    folder = tmp_path / "mine.zarr"
    folder.mkdir()
    with pytest.raises(OutputError, match="something else"):
        check_new(folder, (".zarr",), overwrite=True)
