from __future__ import annotations

import numpy as np
import ome_zarr_models
import pandas as pd
import pytest
import tifffile
import zarr

from dinomask.config import PlanesConfig, SegmentConfig, TileConfig
from dinomask.errors import (
    AxesError,
    CancelledError,
    OutputError,
    SettingsError,
    SourceChangedError,
)
from dinomask.image import open_image, open_stack
from dinomask.run.planes import busy_planes, segment_planes
from dinomask.run.predictor import Predictor
from dinomask.run.segment import segment
from dinomask.tiles.ledger import Ledger
from dinomask.tiles.outputs import ledger_path, table_path

CONFIG = SegmentConfig(diameter_px=26.0, threads=1, tiles=TileConfig(tile_px=224, halo_px=42))
LINKED = PlanesConfig(stitch_z=0.3)


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(SegmentConfig(threads=1))


@pytest.fixture(scope="module")
def volume(sample_nuclei):
    """Four sections of the same nuclei, moved by two pixels each; two tiles a plane."""
    image = tifffile.imread(sample_nuclei)
    return np.stack([image[20 + 2 * z : 140 + 2 * z, 30 : 30 + 240] for z in range(4)])


@pytest.fixture(scope="module")
def linked(predictor, volume):
    return segment_planes(open_stack(volume, axes="zyx"), None, CONFIG, LINKED, predictor=predictor)


def stop_after(n_tiles):
    def tell(progress):
        if progress.stage == "detect" and progress.done == n_tiles:
            raise CancelledError(expected="to finish", got="a cancel", remedy="Run it again.")

    return tell


def test_every_plane_is_segmented_as_an_image_of_its_own(predictor, volume):
    stack = open_stack(volume[:2], axes="zyx")
    result = segment_planes(stack, None, CONFIG, predictor=predictor)
    assert result.labels.shape == volume[:2].shape
    for z in range(2):
        alone = segment(open_image(volume[z]), config=CONFIG, predictor=predictor)
        rows = result.table[result.table["z"] == z]
        # one normaliser for all planes, so not to the last pixel
        assert abs(len(rows) - len(alone.table)) <= 0.15 * len(alone.table)
        foreground = (result.labels[z] > 0, alone.labels_yx > 0)
        assert np.mean(foreground[0] == foreground[1]) > 0.97
    assert result.table["id"].is_unique
    assert set(result.table["id"]) == set(np.unique(result.labels)) - {0}
    assert "object_id" not in result.table


def test_sections_become_objects(linked, volume):
    table, labels = linked.table, linked.labels
    assert list(table.columns[:3]) == ["id", "object_id", "z"]
    assert table["id"].equals(table["object_id"])
    assert set(table["object_id"]) == set(np.unique(labels)) - {0}
    counted = {(z, i): n for z in range(4) for i, n in enumerate(np.bincount(labels[z].ravel()))}
    for row in table.itertuples():
        assert counted[row.z, row.object_id] == row.area_px
    # nearly every nucleus is there in all sections
    sections = table.groupby("object_id")["z"].nunique()
    assert linked.report["n_objects"] == len(sections)
    assert (sections == 4).sum() > 0.7 * len(table) / 4
    assert not table.duplicated(["z", "object_id"]).any()


@pytest.mark.parametrize("name", ["o.ome.tif", "o.zarr"])
def test_files_hold_what_memory_does(predictor, volume, linked, tmp_path, name):
    path = tmp_path / "stack.ome.tif"
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(path, volume, photometric="minisblack", metadata={"axes": "ZYX", **size})
    out = tmp_path / name
    written = segment_planes(open_stack(path), out, CONFIG, LINKED, predictor=predictor)
    pd.testing.assert_frame_equal(written.table, linked.table)
    pd.testing.assert_frame_equal(pd.read_parquet(table_path(out)), linked.table)
    assert written.labels is None
    image = open_stack(out)
    assert (image.axes, image.shape, image.base.dtype) == ("z", (4,), np.uint16)
    assert image.base.pixel_size_um == pytest.approx((0.25, 0.5))
    assert image.base.depth_um == pytest.approx(2.0)
    for z in range(4):
        plane = image.image(z).read((0, 0, *volume.shape[1:]))[0]
        np.testing.assert_array_equal(plane, linked.labels[z])
    if name.endswith("zarr"):
        group = zarr.open_group(str(out), mode="r")
        assert ome_zarr_models.open_ome_zarr(group) is not None
        assert group["0"].chunks == (1, *volume.shape[1:])
        assert ledger_path(out).exists()
    else:
        assert not ledger_path(out).exists()


def test_the_plane_on_display_comes_first_and_changes_nothing(predictor, volume):
    movie = np.stack([volume[:2], volume[1:3]])
    seen = []
    told = segment_planes(
        open_stack(movie, axes="tzyx"),
        None,
        CONFIG,
        predictor=predictor,
        first_place=(1, 0),
        first_yxyx_px=(0, 200, 120, 240),
        on_tile=lambda core, found, place: seen.append((place, core[1] > 0, len(found))),
    )
    places = [(1, 0), (0, 0), (0, 1), (1, 1)]
    assert [place for place, _, _ in seen] == [place for place in places for _ in range(2)]
    # the right tile holds the window
    assert [is_right for _, is_right, _ in seen] == [True, False] + [False, True] * 3
    assert sum(n for _, _, n in seen) >= len(told.table)
    clean = segment_planes(open_stack(movie, axes="tzyx"), None, CONFIG, predictor=predictor)
    pd.testing.assert_frame_equal(told.table, clean.table)
    np.testing.assert_array_equal(told.labels, clean.labels)


def test_movies_of_stacks_link_through_z_only(predictor, volume, tmp_path):
    movie = np.stack([volume[:2, :, :120], volume[1:3, :, :120]])
    stack = open_stack(movie, axes="tzyx")
    out = tmp_path / "o.zarr"
    result = segment_planes(stack, out, CONFIG, LINKED, predictor=predictor)
    assert list(result.table.columns[:4]) == ["id", "object_id", "t", "z"]
    assert (result.table.groupby("object_id")["t"].nunique() == 1).all()
    assert (result.table.groupby("object_id")["z"].nunique() == 2).any()
    labels = zarr.open_group(str(out), mode="r")["0"]
    assert (labels.shape, labels.metadata.dimension_names) == (movie.shape, ("t", "z", "y", "x"))
    one = segment_planes(
        open_stack(movie, axes="tzyx", planes={"z": 0}), None, CONFIG, LINKED, predictor=predictor
    )
    # without z, objects are followed through time
    assert list(one.table.columns[:3]) == ["id", "object_id", "t"]
    assert (one.table.groupby("object_id")["t"].nunique() == 2).any()


@pytest.mark.parametrize("n_tiles", [1, 5])
def test_a_stopped_run_goes_on_and_ends_the_same(predictor, volume, linked, tmp_path, n_tiles):
    stack, out = open_stack(volume, axes="zyx"), tmp_path / "o.tif"
    with pytest.raises(CancelledError):
        segment_planes(
            stack, out, CONFIG, LINKED, predictor=predictor, on_progress=stop_after(n_tiles)
        )
    assert not out.exists()
    ledger = Ledger.open(ledger_path(out))
    assert (ledger.n_tiles, len(list(ledger.pending()))) == (8, 8 - n_tiles)
    with pytest.raises(OutputError, match="image"):
        other = open_stack(volume, axes="zyx", planes={"z": range(1, 4)})
        segment_planes(other, out, CONFIG, LINKED, predictor=predictor)
    told = []
    resumed = segment_planes(
        stack, out, CONFIG, LINKED, predictor=predictor, on_progress=told.append
    )
    assert min(p.done for p in told if p.stage == "detect") == n_tiles
    assert resumed.report["n_resumed"] == n_tiles
    pd.testing.assert_frame_equal(resumed.table, linked.table)
    np.testing.assert_array_equal(tifffile.imread(out), linked.labels)


def test_linking_anew_needs_no_network(predictor, volume, tmp_path):
    stack, out = open_stack(volume, axes="zyx"), tmp_path / "o.zarr"
    loose = segment_planes(stack, out, CONFIG, predictor=predictor)
    told = []
    again = segment_planes(
        stack, out, CONFIG, LINKED, predictor=predictor, overwrite=True, on_progress=told.append
    )
    assert {p.stage for p in told} == {"render"}
    assert again.report["n_resumed"] == again.report["n_tiles"] == 8
    columns = ["z", "score", "area_px", "centroid_y", "centroid_x", "tile"]
    pd.testing.assert_frame_equal(again.table[columns], loose.table[columns])


def test_a_source_that_vanishes_stops_the_run_and_nothing_is_lost(
    predictor, volume, linked, tmp_path
):
    path, out = tmp_path / "image.zarr", tmp_path / "o.zarr"
    zarr.create_array(str(path), data=volume, chunks=(1, 60, 60), dimension_names=list("zyx"))
    stack = open_stack(path)

    def unplug(progress):
        if progress.stage == "detect" and progress.done == 3 and path.exists():
            path.rename(tmp_path / "elsewhere")

    with pytest.raises(SourceChangedError, match="gone"):
        segment_planes(stack, out, CONFIG, LINKED, predictor=predictor, on_progress=unplug)
    assert not out.exists()
    n_done = 8 - len(list(Ledger.open(ledger_path(out)).pending()))
    assert 3 <= n_done < 8
    (tmp_path / "elsewhere").rename(path)
    result = segment_planes(stack, out, CONFIG, LINKED, predictor=predictor)
    pd.testing.assert_frame_equal(result.table, linked.table)


def test_pixels_that_change_under_way_are_no_result(predictor, volume):
    pixels = volume[:2].copy()

    def paint(progress):
        if progress.stage == "detect" and progress.done == 3:
            pixels[0, :50] = 0

    with pytest.raises(SourceChangedError, match="other pixels"):
        segment_planes(
            open_stack(pixels, axes="zyx"), None, CONFIG, predictor=predictor, on_progress=paint
        )


def test_an_unreadable_chunk_costs_its_tile_and_no_more(predictor, volume, linked, tmp_path):
    path = tmp_path / "image.zarr"
    zarr.create_array(str(path), data=volume, chunks=(1, 60, 40), dimension_names=list("zyx"))
    (path / "c" / "2" / "0" / "0").write_bytes(b"\1\2")
    result = segment_planes(open_stack(path), tmp_path / "o.tif", CONFIG, predictor=predictor)
    (failed,) = result.failed_tiles
    assert (failed.plane, failed.index) == ({"z": 2}, 0)
    assert "chunk c/2/0/0" in failed.reason
    assert any("1 tiles failed" in f.what for f in result.findings)
    found = result.table.groupby("z").size()
    expected = linked.table.groupby("z").size()
    assert found[[0, 1, 3]].equals(expected[[0, 1, 3]])
    assert 0 < found[2] < expected[2]
    # the ledger waits for the chunk to come back
    assert ledger_path(tmp_path / "o.tif").exists()


def test_the_object_size_is_estimated_once(predictor, volume):
    config = SegmentConfig(threads=1, tiles=CONFIG.tiles)
    pixels = np.concatenate([np.full_like(volume[:1], 300), volume[:2]])
    told = []
    result = segment_planes(
        open_stack(pixels, axes="zyx"), None, config, predictor=predictor, on_progress=told.append
    )
    assert 18 < result.diameter_px < 34
    assert result.report["scale"] == pytest.approx(32 / result.diameter_px, rel=0.01)
    # an even plane holds nothing, and noise in it is not blown up
    assert set(result.table["z"]) == {1, 2}


def test_the_busiest_planes_are_looked_at():
    pixels = np.zeros((30, 90, 90), np.uint8)
    pixels[11:20, ::7] = 200
    stack = open_stack(pixels, axes="zyx")
    from dinomask.image import fit_stack_normaliser

    found = busy_planes(stack, fit_stack_normaliser(stack), 3)
    assert len(found) == 3
    assert all(11 <= number < 20 for number in found)


@pytest.mark.parametrize("shape", [(3, 40, 50), (2, 1, 1)])
def test_stacks_without_content_give_no_object_and_a_warning(predictor, shape, tmp_path):
    out = tmp_path / "o.tif"
    stack = open_stack(np.zeros(shape, np.uint8), axes="tyx")
    result = segment_planes(stack, out, None, LINKED, predictor=predictor)
    assert (len(result.table), result.diameter_px) == (0, None)
    assert any(f.severity == "warning" for f in result.findings)
    assert tifffile.imread(out).shape == shape
    assert {"t", "id", "object_id"} <= set(pd.read_parquet(table_path(out)).columns)


def test_a_single_plane_is_a_stack_of_one(predictor, volume, tmp_path):
    out = tmp_path / "o.tif"
    stack = open_stack(volume, axes="zyx", planes={"z": 1})
    result = segment_planes(stack, out, CONFIG, LINKED, predictor=predictor)
    assert tifffile.imread(out).shape == volume.shape[1:]
    assert len(result.table) > 0
    assert "z" not in result.table


@pytest.mark.parametrize("iou", [0, -0.1, 1.1, float("nan")])
def test_thresholds_that_link_nothing_or_all_are_refused(iou):
    with pytest.raises(SettingsError, match="IoU above 0"):
        PlanesConfig(stitch_z=iou)
    with pytest.raises(SettingsError, match="--stitch-z"):
        PlanesConfig(bridge=True)


def test_a_plane_outside_is_refused(volume):
    with pytest.raises(AxesError, match="z from 0 to 3"):
        open_stack(volume, axes="zyx", planes={"z": 4})
