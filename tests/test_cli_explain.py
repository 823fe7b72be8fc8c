"""The commands of `dinomask explain`, as they are typed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from dinomask.cli import main
from tests.compress.small import compressible_model, save_model
from tests.nets.tiny_adapter import write_tiny_adapter

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ["--diameter", "26", "--threads", "1", "--device", "cpu"]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(a) for a in ("explain", *arguments)])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def image(sample_nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the nuclei that is one tile."""
    path = tmp_path_factory.mktemp("explain") / "part.tif"
    pixels = tifffile.imread(sample_nuclei)[:160, :200]
    tifffile.imwrite(path, pixels, resolution=(20000, 20000), resolutionunit="CENTIMETER")
    return path


def test_attention_as_zarr_lies_on_the_image(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    assert run("attention", image, "-o", out, "--layer", -1, *SMALL) == 0
    group = zarr.open_group(out, mode="r")
    assert group["0"].shape == (1, 160, 200)
    scale = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert scale[0]["scale"] == [1.0, 0.5, 0.5]
    assert group.attrs["dinomask"]["attention"]["layer"] == -1
    values = group["0"][0]
    assert values.min() >= 0
    assert values.std() > 0
    # a patch is 14 model pixels, 14 · 26 / 32 image pixels
    assert len(np.unique(values)) == 15 * 18


def test_a_point_its_heads_and_rollout(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = ["--point", "80", "100"]
    assert run("attention", image, "-o", tmp_path / "a.png", *point, "--rollout", *SMALL) == 0
    assert "rollout up to layer -1, from y 80, x 100" in capsys.readouterr().out
    assert run("attention", image, "-o", tmp_path / "h.svg", *point, "--heads", *SMALL) == 0
    for name in ("a.png", "h.svg"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_maps_say_why(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "why.json"
    out = tmp_path / "why.png"
    strict = ["--score-threshold", "0.95"]
    arguments = ["maps", image, "-o", out, "--point", "65", "90", "--json", report]
    assert run(*arguments, *strict, *SMALL) == 0
    reason = json.loads(report.read_text())["reason"]
    assert reason["cause"] in ("score", "nothing")
    assert reason["sentence"] in capsys.readouterr().out.replace("\n", " ")
    assert run("maps", image, "-o", tmp_path / "m.tif", "--level", "14", *SMALL) == 0
    assert tifffile.imread(tmp_path / "m.tif").shape == (160, 200)


def test_stats_are_a_table_and_a_report(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report, picture = tmp_path / "s.parquet", tmp_path / "s.json", tmp_path / "c.png"
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, np.random.default_rng(0).integers(0, 255, (160, 200), np.uint8))
    arguments = ["stats", image, "-o", out, "--json", report, "--picture", picture]
    assert run(*arguments, "--other-image", other, *SMALL) == 0
    table = pd.read_parquet(out)
    assert list(table["layer"]) == list(range(12))
    assert {"norm", "effective_rank", "n_outliers", "attention_bits"} <= set(table)
    found = json.loads(report.read_text())
    assert np.allclose(np.diag(found["cka"]), 1, atol=1e-3)
    assert found["other_image"]["frechet"] > 0
    assert "two halves" in capsys.readouterr().out
    assert picture.stat().st_size > 10_000


def test_stats_before_and_after_an_adapter(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path / "models"))
    write_tiny_adapter(tmp_path / "models" / "adapters" / "taught")
    report = tmp_path / "s.json"
    assert run("stats", image, "--other-adapter", "taught", "--json", report, *SMALL) == 0
    said = " ".join(capsys.readouterr().out.split())
    found = json.loads(report.read_text())
    assert found["change"]["sentence"] in said
    assert "tiny with taught" in said
    assert found["change"]["own"] is None
    cka = np.array(found["cka"])
    # the adapter has changed the last two of twelve layers
    assert np.allclose(np.diag(cka)[:10], 1, atol=1e-3)
    assert 0 < found["change"]["mean_distance"]
    assert np.isclose(cka[-1, -1], found["change"]["cka"], atol=1e-3)


def test_stats_of_another_model_are_a_comparison_of_layers(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = compressible_model()
    save_model(tmp_path / "other", other)
    report, picture = tmp_path / "s.json", tmp_path / "c.png"
    arguments = ["--other-model", tmp_path / "other", "--picture", picture, "--json", report]
    assert run("stats", image, *arguments, *SMALL) == 0
    found = json.loads(report.read_text())
    # other features have no common axes, so that nothing has moved
    assert "change" not in found
    assert np.shape(found["cka"]) == (12, other.backbone.n_layers)
    assert 0 <= np.min(found["cka"]) <= np.max(found["cka"]) < 1
    assert "CKA of the last layers of tiny and other" in capsys.readouterr().out
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["attention", "-o", "a.png", "--layer", "99"], "a layer from 0 to 11"),
        (["attention", "-o", "a.png", "--head", "7"], "a head from 0 to 2"),
        (["attention", "-o", "a.png", "--point", "5", "900"], "a point within 160 x 200"),
        (["attention", "-o", "a.jpg"], "an output ending"),
        (["attention", "-o", "a.tif", "--heads"], "a picture for --heads"),
        (["attention", "-o", "a.png", "--head", "1", "--rollout"], "one head, or rollout"),
        (["maps", "-o", "a.tif", "--point", "5", "9"], "a picture for --point"),
        (["stats", "-o", "a.txt"], "an output ending"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(
    arguments: list[str],
    said: str,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *rest = arguments
    assert run(command, image, *rest, *SMALL) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_several_planes_need_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite(tmp_path / "z.tif", np.zeros((5, 64, 64), np.uint8))
    out = tmp_path / "a.png"
    assert run("attention", tmp_path / "z.tif", "-o", out, "--axes", "zyx", *SMALL) == 2
    assert "--plane z=5" in capsys.readouterr().err
