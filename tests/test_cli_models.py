"""The shelf from the command line, and runs with an adapter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import tifffile

from dinomask.adapt.promotion import keep_aside
from dinomask.cli import main
from dinomask.nets.adapter_manifest import adapters_folder, read_adapter_manifest
from tests.adapt.shelves import put_adapter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out + captured.err

    return call


def test_the_shelf_is_listed(run: Run, tmp_path: Path) -> None:
    for i, name in enumerate(("used", "aside", "[bold]")):
        put_adapter(name, float(i), folder=adapters_folder() / name, notes="of Tuesday")
    keep_aside("aside", "forgot 3 points")
    assert run("models", "promote", "used")[0] == 0
    report = tmp_path / "list.json"
    code, text = run("models", "list", "--json", report)
    assert code == 0
    for word in (
        "tiny",
        "bundled",
        "in use",
        "kept aside: forgot 3 points",
        "[bold]",
        "of Tuesday",
    ):
        assert word in text
    rows = {row["name"]: row for row in json.loads(report.read_text())["shelf"]}
    assert (rows["used"]["kind"], rows["used"]["state"]) == ("adapter", "in use")
    assert rows["tiny"]["size_mb"] > 10


def test_one_is_told_about(run: Run) -> None:
    path = put_adapter("powder", provenance={"objects": 12})
    code, text = run("models", "info", "powder")
    assert code == 0
    told = json.loads(text)
    assert told["provenance"] == {"objects": 12}
    assert told["tensors_sha256"] == read_adapter_manifest(path).tensors_sha256
    assert told["size_mb"] == pytest.approx(0, abs=0.1)
    (path / "adapter.json").write_text("torn {")
    code, text = run("models", "info", "powder")
    assert code == 2
    assert "torn {" in text
    code, text = run("models", "info", "sand")
    assert code == 2
    assert "Known names: tiny, powder" in text


def test_notes_and_removal(run: Run) -> None:
    path = put_adapter("powder")
    assert run("models", "note", "powder", "for the old microscope")[0] == 0
    assert read_adapter_manifest(path).notes == "for the old microscope"
    assert run("models", "promote", "powder", "--reason", "looks right")[0] == 0
    code, text = run("models", "remove", "powder")
    assert code == 2
    assert "in use" in text
    code, text = run("models", "rollback")
    assert code == 0
    assert "the bare model tiny is in use now" in text
    assert run("models", "remove", "powder")[0] == 0
    assert not path.exists()
    code, text = run("models", "remove", "tiny")
    assert code == 2
    assert "comes with DINOmask" in text


def test_one_file_goes_out_and_comes_in(run: Run, tmp_path: Path) -> None:
    put_adapter("powder")
    packed = tmp_path / "powder.zip"
    assert run("models", "export", "powder", "-o", packed)[0] == 0
    code, text = run("models", "export", "powder", "-o", packed)
    assert code == 2
    assert "--overwrite" in text
    assert run("models", "export", "powder", "-o", packed, "--overwrite")[0] == 0
    code, text = run("models", "add", packed)
    assert code == 2
    assert "--name" in text
    code, text = run("models", "add", packed, "--name", "sand")
    assert code == 0
    assert str(adapters_folder() / "sand") in text
    code, text = run("models", "add", tmp_path / "nothing.zip")
    assert code == 2
    assert "no such file" in text


@pytest.fixture
def image(sample_nuclei: Path, tmp_path: Path) -> Path:
    path = tmp_path / "nuclei.tif"
    tifffile.imwrite(path, tifffile.imread(sample_nuclei)[:200, :200])
    return path


def test_segment_takes_an_adapter(run: Run, image: Path, tmp_path: Path) -> None:
    put_adapter("powder", -2.0)
    areas = []
    for i, extra in enumerate([(), ("--adapter", "powder")]):
        out, report = tmp_path / f"{i}.tif", tmp_path / f"{i}.json"
        arguments = ("segment", image, "-o", out, "--json", report, "--diameter", 26)
        code, text = run(*arguments, *extra)
        assert code == 0, text
        areas.append((tifffile.imread(out) > 0).sum())
        told = json.loads(report.read_text())["adapter"]
        assert (told and told["name"]) == (None, "powder")[i]
    # its masks are shy
    assert 0 < areas[1] < 0.95 * areas[0]


def test_a_merged_adapter_is_a_model(run: Run, image: Path, tmp_path: Path) -> None:
    put_adapter("powder", -2.0)
    code, text = run("models", "merge", "powder", "--name", "tiny-powder")
    assert code == 0, text
    sizes = []
    for i, with_ in enumerate([("--model", "tiny-powder"), ("--adapter", "powder")]):
        out = tmp_path / f"{i}.tif"
        assert run("segment", image, "-o", out, "--diameter", 26, *with_)[0] == 0
        sizes.append((tifffile.imread(out) > 0).sum())
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)


def test_evaluate_takes_an_adapter(
    run: Run, image: Path, sample_nuclei_labels: Path, tmp_path: Path
) -> None:
    put_adapter("powder", -2.0)
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    image.rename(tmp_path / "data" / "images" / "a.tif")
    labels = tifffile.imread(sample_nuclei_labels)[:200, :200]
    tifffile.imwrite(tmp_path / "data" / "labels" / "a.tif", labels)
    report = tmp_path / "e.json"
    arguments = ("evaluate", tmp_path / "data", "--json", report, "--diameter", 26)
    code, text = run(*arguments, "--adapter", "powder")
    assert code == 0, text
    assert json.loads(report.read_text())["adapter"]["name"] == "powder"


@pytest.mark.parametrize("command", ["segment", "evaluate"])
def test_the_wrong_model_or_name_is_refused_before_the_work(
    run: Run, command: str, image: Path, tmp_path: Path
) -> None:
    put_adapter("foreign", base="large", base_sha256="f" * 64)
    given = (image, "-o", tmp_path / "o.tif") if command == "segment" else (tmp_path,)
    if command == "evaluate":
        (tmp_path / "images").mkdir()
        (tmp_path / "labels").mkdir()
        image.rename(tmp_path / "images" / "a.tif")
        tifffile.imwrite(tmp_path / "labels" / "a.tif", tifffile.imread(tmp_path / "images/a.tif"))
    for name, message in (("foreign", "'large' with the hash ffffffffffff"), ("none", "foreign")):
        code, text = run(command, *given, "--adapter", name)
        assert code == 2
        assert message in text
    assert not (tmp_path / "o.tif").exists()
