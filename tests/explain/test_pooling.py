"""Vectors of objects: tokens under each object, whatever tiles they were computed in."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import TileConfig
from dinomask.errors import CancelledError, InputError, SettingsError
from dinomask.explain.measure_labels import measure_labels, open_labels
from dinomask.explain.patches import PatchPlan
from dinomask.explain.pooling import object_features
from dinomask.explain.tokens import TokenSource, choose_layers
from dinomask.image import open_image
from dinomask.nets.catalogue import Manifest
from dinomask.run.predictor import Predictor
from dinomask.tiles.outputs import table_path
from tests.contracts.members import MEMBERS
from tests.explain.scenes import SMALL_TILES, local_predictor

UNTILED = dataclasses.replace(SMALL_TILES, tiles=TileConfig(tile_px=448, halo_px=28))


@pytest.fixture(scope="module")
def predictor():
    return local_predictor()


@pytest.fixture(scope="module")
def scene():
    """An image of 200 × 260 with objects of 1 to 900 pixels, some across tiles."""
    rng = np.random.default_rng(0)
    labels = np.zeros((200, 260), np.uint16)
    for label, (y, x, side) in enumerate(
        [(3, 4, 30), (80, 90, 30), (150, 200, 25), (10, 200, 1), (100, 20, 3), (170, 60, 30)], 1
    ):
        labels[y : y + side, x : x + side] = label * 10
    image = rng.integers(0, 60, labels.shape).astype(np.uint8)
    image[labels == 20] += 150
    return image, labels


@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.sampled_from([(112, 28), (224, 64), (448, 64), (112, 42)]),
)
def test_cores_partition_the_patches(shape, tile_and_halo):
    plan = PatchPlan.of(shape, TileConfig(*tile_and_halo))
    seen = np.zeros(plan.shape_yx, int)
    for i in range(len(plan)):
        tile = plan[i]
        y0, x0, y1, x1 = tile.core_yxyx
        seen[y0:y1, x0:x1] += 1
        top, left, bottom, right = tile.read_yxyx
        assert bottom - top == right - left == plan.tile
        # the halo is there unless the image ends
        assert y0 - top >= plan.halo or y0 == 0
        assert bottom - y1 >= plan.halo or y1 == plan.shape_yx[0]
        assert x0 - left >= plan.halo or x0 == 0
        assert right - x1 >= plan.halo or x1 == plan.shape_yx[1]
    assert (seen == 1).all()


@pytest.mark.parametrize("diameter_px", [32.0, 21.0, 55.0])
def test_vectors_are_the_mean_token_under_each_pixel(predictor, scene, diameter_px):
    pixels, labels = scene
    config = dataclasses.replace(SMALL_TILES, diameter_px=diameter_px)
    found = object_features(
        open_image(pixels), labels, layers=(1, -1), config=config, predictor=predictor
    )
    source = TokenSource.of(open_image(pixels), (1, 3), config, predictor)
    grid = {layer: np.zeros((*source.plan.shape_yx, 32)) for layer in (1, 3)}
    for tile, tokens in source.look(range(len(source.plan)), "features"):
        y0, x0, y1, x1 = tile.core_yxyx
        for layer in grid:
            grid[layer][y0:y1, x0:x1] = tokens[layer]
    assert found.layers == (1, 3)
    assert found.ids.tolist() == np.unique(labels)[1:].tolist()
    for row, label in enumerate(found.ids):
        # each pixel by itself: the token of the patch that holds its middle
        places = [
            (int((y + 0.5) * 32 / diameter_px / 14), int((x + 0.5) * 32 / diameter_px / 14))
            for y, x in zip(*np.nonzero(labels == label), strict=True)
        ]
        for layer in grid:
            by_hand = np.mean([grid[layer][place] for place in places], axis=0)
            np.testing.assert_allclose(found.vectors(layer)[row], by_hand, atol=1e-5)


def test_tiles_change_nothing(predictor, scene):
    pixels, labels = scene
    tiled, whole = (
        object_features(open_image(pixels), labels, config=config, predictor=predictor)
        for config in (SMALL_TILES, UNTILED)
    )
    np.testing.assert_allclose(tiled.vectors(), whole.vectors(), atol=1e-5)
    pd.testing.assert_frame_equal(tiled.table, whole.table)


def test_a_bright_object_stands_out(predictor, scene):
    pixels, labels = scene
    found = object_features(open_image(pixels), labels, config=SMALL_TILES, predictor=predictor)
    vectors = found.vectors()
    far = np.linalg.norm(vectors[:, None] - vectors[None], axis=2).sum(axis=1)
    assert found.ids[far.argmax()] == 20


def test_objects_are_measured_as_they_are(scene):
    _, labels = scene
    table = measure_labels(open_labels(labels, labels.shape)).set_index("id")
    y, x = np.nonzero(labels == 20)
    assert table.loc[20, ["y0", "x0", "y1", "x1"]].tolist() == [80, 90, 110, 120]
    assert table.loc[20, "area_px"] == 900
    assert table.loc[20, "centroid_y"] == pytest.approx(y.mean())
    assert table.loc[20, "centroid_x"] == pytest.approx(x.mean())
    assert table.loc[40, "area_px"] == 1


def test_measuring_goes_on_across_windows():
    labels = np.zeros((1100, 2100), np.int32)
    labels[1000:1060, 1000:1060] = 70_000
    labels[5, 5] = -1
    table = measure_labels(open_labels(labels, labels.shape))
    assert table.to_dict("records") == [
        {"id": 70_000, "y0": 1000, "x0": 1000, "y1": 1060, "x1": 1060}
        | {"area_px": 3600, "centroid_y": 1029.5, "centroid_x": 1029.5}
    ]


def test_the_table_beside_a_label_file_is_joined(predictor, scene, tmp_path):
    pixels, labels = scene
    path = tmp_path / "labels.tif"
    tifffile.imwrite(path, labels)
    ids = np.unique(labels)[1:]
    pd.DataFrame({"id": ids[::-1], "score": ids[::-1] / 100}).to_parquet(table_path(path))
    found = object_features(
        open_image(pixels), path, config=SMALL_TILES, predictor=predictor, name="dish 1"
    )
    assert found.table["score"].tolist() == (ids / 100).tolist()
    assert found.images == ("dish 1",)


def test_no_object_gives_an_empty_table(predictor):
    pixels = np.random.default_rng(0).integers(0, 99, (60, 60)).astype(np.uint8)
    found = object_features(
        open_image(pixels), np.zeros((60, 60), np.uint8), predictor=predictor, config=SMALL_TILES
    )
    assert len(found) == 0
    assert found.vectors().shape == (0, 32)
    assert {"image", "id", "area_px"} <= set(found.table.columns)


def test_what_can_not_be_used_is_refused(predictor, scene):
    pixels, labels = scene
    image = open_image(pixels)
    with pytest.raises(InputError, match="200 x 260"):
        object_features(image, labels[:, :100], config=SMALL_TILES, predictor=predictor)
    with pytest.raises(InputError, match="whole numbers"):
        object_features(image, labels / 2, config=SMALL_TILES, predictor=predictor)
    with pytest.raises(SettingsError, match="from 0 to 3"):
        object_features(image, labels, layers=(4,), config=SMALL_TILES, predictor=predictor)
    assert choose_layers(predictor.model.backbone, (-1, 3, 0)) == (0, 3)
    assert choose_layers(predictor.model.backbone, ()) == (2,)


def test_it_stops_when_told_to(predictor, scene):
    pixels, labels = scene
    seen = []

    def stop(progress):
        seen.append(progress.stage)
        if progress.stage == "features" and progress.done == 2:
            raise CancelledError(expected="a", got="b", remedy="c")

    with pytest.raises(CancelledError):
        object_features(
            open_image(pixels),
            labels,
            config=SMALL_TILES,
            predictor=predictor,
            on_progress=stop,
        )
    assert seen[-1] == "features"


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "vit_tiny_patch16_224"])
def test_layers_of_finer_grids_are_pooled_on_those(name, scene):
    pixels, labels = scene
    member = next(m for m in MEMBERS if m.name.startswith(name[:8]))
    model = member.model().eval()
    predictor = Predictor(model, Manifest("m", model.config), torch.device("cpu"))
    layers = range(model.backbone.n_layers)
    found = object_features(
        open_image(pixels), labels, layers=layers, config=UNTILED, predictor=predictor
    )
    source = TokenSource.of(open_image(pixels), layers, UNTILED, predictor)
    ((_, tokens),) = source.look([0], "features")
    for layer in found.layers:
        k = source.cells_a_patch(layer)
        assert k == round(14 / model.backbone.layer_stride_px(layer))
        # the object of one pixel has the vector of its cell, at scale 1
        row = found.ids.tolist().index(40)
        cell = tokens[layer][int(10.5 * k / 14), int(200.5 * k / 14)]
        np.testing.assert_allclose(found.vectors(layer)[row], cell, atol=1e-5)
