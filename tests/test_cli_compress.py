"""dinomask compress: what it makes, says and refuses."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import pytest
import tifffile

from dinomask.cli import main
from dinomask.compress.bench import report as report_module
from dinomask.compress.bench.measure import Bench
from dinomask.compress.methods import METHODS
from tests.compress.in_process import InProcess

if TYPE_CHECKING:
    from pathlib import Path

    Capsys = pytest.CaptureFixture[str]

SMALL = "--rounds 1 --feature-tiles 0 --shaken-tiles 0 --diameter 26 --threads 1 --tile 168".split()
SMALL += ["--halo", "42"]


def run(capsys: Capsys, *arguments: Any) -> tuple[int, str]:
    """Run in this process; return the exit code and all that was printed, unwrapped."""
    with pytest.raises(SystemExit) as stop:
        main(["compress", *map(str, arguments)])
    printed = capsys.readouterr()
    return int(stop.value.code or 0), " ".join((printed.out + printed.err).split())


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "models"
    monkeypatch.setenv("DINOMASK_MODELS", str(home))
    monkeypatch.setattr(report_module, "Bench", functools.partial(Bench, start=InProcess))
    return home


@pytest.fixture
def images(sample_nuclei: Path, tmp_path: Path) -> Path:
    """A folder with one small image, without labels."""
    folder = tmp_path / "mine"
    folder.mkdir()
    tifffile.imwrite(folder / "nuclei.tif", tifffile.imread(sample_nuclei)[:128, :128])
    return folder


def test_it_makes_models_compares_them_and_recommends(
    capsys: Capsys, models: Path, images: Path, tmp_path: Path
) -> None:
    report, chart = tmp_path / "c.json", tmp_path / "c.png"
    line = ["tiny", "--method", "bf16,merge,merge+fp16", "--data", images, *SMALL]
    code, text = run(capsys, *line, "--json", report, "--chart", chart)
    assert code == 0, text
    figures = json.loads(report.read_text())
    assert [row["name"] for row in figures["variants"]] == ["original", "bf16", "merge+fp16"]
    # what can't be done is told, and the others go on
    assert "there is no adapter to merge" in figures["left_out"]["merge"]
    assert figures["left_out"]["merge in merge+fp16"] == "there is no adapter to merge"
    assert "merge is left out" in text
    assert figures["recommendation"] in text
    assert figures["compression"]["bf16"]["steps"][0]["method"] == "bf16"
    assert (models / "tiny-bf16" / "manifest.json").is_file()
    assert chart.stat().st_size > 10_000
    for key in ("dinomask_version", "machine", "settings", "compress_settings"):
        assert key in figures
    # the same line again makes and measures nothing anew
    before = (models / "tiny-bf16" / "manifest.json").stat().st_mtime_ns
    code, _ = run(capsys, *line, "--json", report)
    assert code == 0
    assert (models / "tiny-bf16" / "manifest.json").stat().st_mtime_ns == before
    assert json.loads(report.read_text())["variants"] == figures["variants"]


def test_what_lies_there_is_not_overwritten_unasked(
    capsys: Capsys, models: Path, images: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "precious"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    code, text = run(capsys, "tiny", "--method", "bf16", "--data", images, "-o", mine, *SMALL)
    assert "--overwrite" in text
    assert (mine / "notes.txt").read_text() == "mine"
    assert code == 0
    assert "no variant could be made" in text


def test_methods_are_listed(capsys: Capsys) -> None:
    code, text = run(capsys, "tiny", "--method", "help")
    assert code == 0
    for method in METHODS:
        assert method.name in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "bf16"], "--data"),
        (["--data", "IMAGES"], "bf16"),
        (["--method", "bf15", "--data", "IMAGES"], "bf16"),
        (["--method", "bf16+bf16", "--data", "IMAGES"], "once"),
        (["--method", "bf16", "--data", "nowhere"], "nowhere"),
        (["--method", "bf16", "--data", "IMAGES", "--head-prune.ratio", "1.5"], "between 0 and 1"),
        (["--method", "bf16", "--data", "IMAGES", "--rounds", "0"], "round"),
        (["--method", "bf16", "--data", "IMAGES", "--shaken", "100"], "14"),
        (["--method", "bf16", "--data", "IMAGES", "--chart", "c.pdf"], ".png"),
        (["--method", "bf16", "--data", "IMAGES", "--json", "/nowhere/at/all.json"], "folder"),
        (["--method", "bf16", "--data", "EMPTY"], "folder of images"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(
    capsys: Capsys, models: Path, images: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    places = {"IMAGES": str(images), "EMPTY": str(empty)}
    code, text = run(capsys, "tiny", *(places.get(a, a) for a in arguments))
    assert code == 2, text
    assert said in text
    assert not models.exists() or not list(models.glob("tiny-*"))


def test_an_unknown_model_is_named(capsys: Capsys, models: Path, images: Path) -> None:
    code, text = run(capsys, "huge", "--method", "bf16", "--data", images)
    assert code == 2
    assert "'huge'" in text
