"""Objects, features and maps in files: what comes back is what was written."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from dinomask.config import MapConfig
from dinomask.errors import ExplainError
from dinomask.explain.embedding import fit_map
from dinomask.explain.feature_pictures import draw_map
from dinomask.explain.map_files import load_map, save_map
from dinomask.explain.object_files import read_features, write_features
from dinomask.explain.objects import ObjectFeatures
from dinomask.explain.picture import write_picture
from tests.explain.scenes import MODEL, planted


@pytest.fixture
def features():
    both = ObjectFeatures.concatenate([planted(image="a")[0], planted(image="b", n_each=3)[0]])
    table = both.table.assign(
        score=np.linspace(0, 1, len(both)),
        cut=np.arange(len(both)) % 2 == 0,
        kind=[None if i % 7 == 0 else f"kind {i % 3}" for i in range(len(both))],
    )
    # a second, narrower layer
    layers = {1: both.vectors()[:, :5], 3: both.vectors()}
    return ObjectFeatures(table, layers, MODEL)


def test_zarr_gives_everything_back(features, tmp_path):
    write_features(features, tmp_path / "f.zarr")
    back = read_features(tmp_path / "f.zarr")
    assert back.layers == (1, 3)
    for layer in back.layers:
        np.testing.assert_array_equal(back.vectors(layer), features.vectors(layer))
    pd.testing.assert_frame_equal(back.table, features.table, check_dtype=False)
    assert back.table["id"].dtype == features.table["id"].dtype
    assert dict(back.model) == MODEL


def test_an_empty_table_comes_back_too(features, tmp_path):
    write_features(features.take(np.zeros(0, int)), tmp_path / "f.zarr")
    back = read_features(tmp_path / "f.zarr")
    assert len(back) == 0
    assert back.vectors(1).shape == (0, 5)


def test_other_folders_are_no_features(tmp_path):
    (tmp_path / "x.zarr").mkdir()
    for name in ("x.zarr", "missing.zarr"):
        with pytest.raises(ExplainError, match="features of objects"):
            read_features(tmp_path / name)


@pytest.mark.parametrize("name", ["f.parquet", "f.csv"])
def test_tables_hold_each_feature_in_a_column(features, tmp_path, name):
    positions = np.random.default_rng(0).normal(size=(len(features), 2))
    write_features(features, tmp_path / name, {"umap": positions})
    read = pd.read_parquet if name.endswith("parquet") else pd.read_csv
    back = read(tmp_path / name)
    assert back["id"].tolist() == features.ids.tolist()
    np.testing.assert_allclose(back[["umap_1", "umap_2"]], positions)
    np.testing.assert_allclose(back[[f"f1_{i}" for i in range(5)]], features.vectors(1), rtol=1e-6)


def test_anndata_is_as_scanpy_expects_it(features, tmp_path):
    anndata = pytest.importorskip("anndata")
    positions = np.random.default_rng(0).normal(size=(len(features), 2)).astype(np.float32)
    write_features(features, tmp_path / "f.h5ad", {"umap": positions})
    back = anndata.read_h5ad(tmp_path / "f.h5ad")
    np.testing.assert_array_equal(back.X, features.vectors(3))
    np.testing.assert_array_equal(back.obsm["X_umap"], positions)
    np.testing.assert_array_equal(back.obsm["layer_1"], features.vectors(1))
    assert back.obs["id"].tolist() == features.ids.tolist()
    assert back.obs_names[0] == f"a:{features.ids[0]}"
    assert back.obs_names.is_unique
    np.testing.assert_array_equal(
        back.obsm["spatial"], features.table[["centroid_x", "centroid_y"]]
    )
    assert back.uns["dinomask"]["sha256"] == MODEL["sha256"]


def test_a_map_places_objects_as_before_it_was_saved(features, tmp_path):
    found = fit_map(features, MapConfig(method="pca", seed=5))
    save_map(found, tmp_path / "m.safetensors")
    back = load_map(tmp_path / "m.safetensors")
    new = planted(seed=9, image="c")[0]
    np.testing.assert_allclose(back.project(new), found.project(new), atol=1e-6)
    assert back.config == found.config
    assert back.images.tolist() == found.images.tolist()
    assert back.ids.tolist() == found.ids.tolist()
    assert (back.layer, dict(back.model)) == (3, MODEL)


def test_other_files_are_no_maps(tmp_path):
    paths = [tmp_path / name for name in ("missing", "words", "weights", "settings")]
    paths[1].write_text("this is no map")
    save_file({"a": np.zeros(3)}, paths[2])
    wrong = {"kind": "dinomask-object-map", "config": {"method": "umap", "min_dist": 7}}
    save_file({"positions": np.zeros(3)}, paths[3], {"dinomask": json.dumps(wrong)})
    for path in paths:
        with pytest.raises(ExplainError, match="a map of objects"):
            load_map(path)


@pytest.mark.parametrize("column", [None, "kind", "score", "image"])
def test_a_map_is_drawn_in_the_colours_of_a_column(features, tmp_path, column):
    positions = fit_map(features, MapConfig(method="pca")).positions
    figure = draw_map(features.table, positions, column, "PCA", "what it is")
    write_picture(figure, tmp_path / "m.png")
    assert (tmp_path / "m.png").stat().st_size > 5000
    legend = figure.axes[0].get_legend()
    assert (legend is not None) == (column in ("kind", "image"))
    drawn = sum(len(c.get_offsets()) for c in figure.axes[0].collections)
    assert drawn == len(features)
