"""explain probe as a user meets it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tifffile

from tests.test_cli import run
from tests.test_cli_explain_features import SMALL


@pytest.fixture(scope="module")
def scene(tmp_path_factory, sample_nuclei, sample_nuclei_labels):
    """Two images of nuclei, and a table that calls the larger half of them large."""
    folder = tmp_path_factory.mktemp("probe")
    pixels, labels = tifffile.imread(sample_nuclei), tifffile.imread(sample_nuclei_labels)
    rows = []
    for name, part in (("a", np.s_[:230, :230]), ("b", np.s_[230:460, 230:460])):
        tifffile.imwrite(folder / f"{name}.tif", pixels[part])
        tifffile.imwrite(folder / f"{name}_labels.tif", labels[part])
        areas = np.bincount(labels[part].ravel())
        ids = np.flatnonzero(areas[1:]) + 1
        large = areas[ids] > np.median(areas[ids])
        rows += [
            {"image": f"{name}.tif", "id": i, "class": "large" if big else "small"}
            for i, big in zip(ids, large, strict=True)
        ]
    pd.DataFrame(rows).to_csv(folder / "classes.csv", index=False)
    return folder


def images_of(folder):
    return (
        *(folder / "a.tif", folder / "b.tif", "--labels"),
        *(folder / "a_labels.tif", folder / "b_labels.tif", *SMALL),
    )


def test_classes_of_a_table_are_probed_saved_and_used(capsys, scene, tmp_path):
    out, saved, report = (tmp_path / n for n in ("c.csv", "p.safetensors", "r.json"))
    code, text = run(
        *(capsys, "explain", "probe", *images_of(scene), "--classes", scene / "classes.csv"),
        *("--layer", 2, 8, "-o", out, "--save-probe", saved, "--json", report),
    )
    assert code == 0, text
    assert "images it had not seen" in text
    figures = json.loads(report.read_text())
    assert figures["folds_by"] == "image"
    assert {row["layer"] for row in figures["scores"]} == {2, 8}
    table = pd.read_csv(out)
    assert set(table["predicted_class"]) == {"large", "small"}
    assert (table["known_class"] == table["predicted_class"]).mean() > 0.6
    code, text = run(
        *(capsys, "explain", "probe", scene / "a.tif", "--labels", scene / "a_labels.tif", *SMALL),
        *("--use", saved, "-o", tmp_path / "used.csv"),
    )
    assert code == 0, text
    used = pd.read_csv(tmp_path / "used.csv")
    first = table[table["image"] == "a.tif"]
    assert used["predicted_class"].tolist() == first["predicted_class"].tolist()


def test_an_annotated_folder_has_its_own_classes(capsys, scene, tmp_path):
    for kind in ("images", "labels", "classes"):
        (tmp_path / "set" / kind).mkdir(parents=True)
    classes = pd.read_csv(scene / "classes.csv")
    for name in "ab":
        (tmp_path / f"set/images/{name}.tif").write_bytes((scene / f"{name}.tif").read_bytes())
        labels = (scene / f"{name}_labels.tif").read_bytes()
        (tmp_path / f"set/labels/{name}.tif").write_bytes(labels)
        rows = classes[classes["image"] == f"{name}.tif"][["id", "class"]]
        rows = rows.rename(columns={"id": "label"})
        rows.to_csv(tmp_path / f"set/classes/{name}.csv", index=False)
    out = tmp_path / "p.png"
    code, text = run(capsys, "explain", "probe", tmp_path / "set", "--layer", 8, "-o", out, *SMALL)
    assert code == 0, text
    assert "classes of the objects" in text
    assert out.stat().st_size > 10_000


def test_without_classes_it_asks_for_some(capsys, scene, tmp_path):
    table = tmp_path / "t.csv"
    pd.DataFrame({"id": [1], "kind": ["x"]}).to_csv(table, index=False)
    strange = tmp_path / "s.csv"
    pd.DataFrame({"id": [1], "class": ["x"], "image": ["z.tif"]}).to_csv(strange, index=False)
    for arguments, said in (
        ((), "got nothing"),
        ((scene / "a.tif",), "--classes TABLE"),
        ((scene, "--classes", table), "Folders have their own"),
        ((tmp_path,), "'images' and 'labels'"),
        ((scene / "a.tif", "--classes", table), "without class"),
        ((scene / "a.tif", "--classes", strange), "'z.tif'"),
        ((scene / "a.tif", "--classes", scene / "missing.csv"), "a table of classes"),
        ((scene / "a.tif", "--use", table), "an output for --use"),
        ((scene / "a.tif", "--use", table, "-o", tmp_path / "u.csv"), "a probe"),
    ):
        code, text = run(capsys, "explain", "probe", *arguments)
        assert code == 2, text
        assert said in text
