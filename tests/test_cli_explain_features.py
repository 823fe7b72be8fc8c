"""explain pca, features, umap and tsne as a user meets them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tifffile

from dinomask.explain.object_files import read_features
from tests.nets.tiny_adapter import write_tiny_adapter
from tests.test_cli import run

SMALL = ("--diameter", 26, "--tile", 224, "--halo", 56, "--threads", 1)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, sample_nuclei, sample_nuclei_labels):
    """A small image and the labels of its 24 nuclei."""
    folder = tmp_path_factory.mktemp("pair")
    for name, path in (("nuclei", sample_nuclei), ("labels", sample_nuclei_labels)):
        tifffile.imwrite(folder / f"{name}.tif", tifffile.imread(path)[:240, :240])
    return folder / "nuclei.tif", folder / "labels.tif"


@pytest.mark.parametrize("name", ["p.tif", "p.zarr", "p.png", "p.svg"])
def test_pca(capsys, pair, tmp_path, name):
    out = tmp_path / name
    code, text = run(capsys, "explain", "pca", pair[0], "-o", out, *SMALL)
    assert code == 0, text
    assert "layer 8" in text
    assert out.exists()
    code, text = run(capsys, "explain", "pca", pair[0], "-o", out, *SMALL)
    assert code == 2
    assert "--overwrite" in text


def test_pca_before_and_after_an_adapter(capsys, pair, tmp_path, monkeypatch):
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path / "models"))
    write_tiny_adapter(tmp_path / "models" / "adapters" / "taught")
    arguments = (pair[0], "--adapter", "taught", "--compare", *SMALL, "--layer", -1)
    for name in ("p.tif", "p.png"):
        code, text = run(capsys, "explain", "pca", *arguments, "-o", tmp_path / name)
        assert code == 0, text
    after, before = (tifffile.imread(tmp_path / n) for n in ("p.tif", "p_before.tif"))
    assert after.shape == before.shape == (240, 240, 3)
    apart = np.abs(after.astype(int) - before)
    # in one basis, a small change of the weights is a small change of the colours
    assert 0 < apart.mean() < 20


def test_pca_asks_for_what_can_be(capsys, pair, tmp_path):
    for out, more, said in (
        ("p.tif", ("--layer", 12), "from 0 to 11"),
        ("p.tif", ("--compare",), "--adapter"),
        ("p.txt", (), "an output ending .tif"),
    ):
        code, text = run(capsys, "explain", "pca", pair[0], "-o", tmp_path / out, *SMALL, *more)
        assert code == 2
        assert said in text


def test_features_of_labels_and_of_a_segmentation(capsys, pair, tmp_path):
    image, labels = pair
    out = tmp_path / "f.zarr"
    code, text = run(
        *(capsys, "explain", "features", image, "--labels", labels, "-o", out),
        *("--layer", 3, -1, "--json", tmp_path / "f.json", *SMALL),
    )
    assert code == 0, text
    found = read_features(out)
    assert found.layers == (3, 11)
    ids = np.unique(tifffile.imread(labels))
    assert found.ids.tolist() == ids[ids > 0].tolist()
    assert json.loads((tmp_path / "f.json").read_text())["n_objects"] == len(found)
    code, text = run(capsys, "explain", "features", image, "-o", tmp_path / "s.zarr", *SMALL)
    assert code == 0, text
    segmented = read_features(tmp_path / "s.zarr")
    assert {"score", "class", "area_px"} <= set(segmented.table.columns)
    assert abs(len(segmented) - len(found)) < 8


def test_a_map_is_made_saved_and_used_again(capsys, pair, tmp_path):
    image, labels = pair
    common = (image, "--labels", labels, *SMALL)
    saved = tmp_path / "m.safetensors"
    code, text = run(
        *(capsys, "explain", "tsne", *common, "-o", tmp_path / "t.parquet"),
        *("--save-map", saved, "--clusters", 2),
    )
    assert code == 0, text
    assert "2 groups" in text
    first = pd.read_parquet(tmp_path / "t.parquet")
    assert {"id", "tsne_1", "tsne_2", "cluster", "area_px"} <= set(first.columns)
    code, text = run(capsys, "explain", "umap", *common, "-o", tmp_path / "u.csv", "--into", saved)
    assert code == 0, text
    again = pd.read_csv(tmp_path / "u.csv")
    np.testing.assert_allclose(again["tsne_1"], first["tsne_1"], atol=1e-3)


def test_maps_refuse_what_can_not_be(capsys, pair, tmp_path):
    image, labels = pair
    out = tmp_path / "u.parquet"
    for arguments, said in (
        ((), "at least one image"),
        ((image, "--labels", labels, labels), "a label image for each"),
        ((image, "--clusters", "many"), "a number of groups"),
        ((image, "--into", labels), "a map of objects"),
        ((image, "--neighbours", 1), "at least 2 neighbours"),
        ((image, "--labels", image, *SMALL, "--layer", 77), "from 0 to 11"),
    ):
        code, text = run(capsys, "explain", "umap", *arguments, "-o", out)
        assert code == 2, text
        assert said in text
    assert not out.exists()
