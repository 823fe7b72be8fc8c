"""Label images on disk, scored for all methods alike."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from peers import figures
from peers.runner_files import write_labels
from rich.console import Console

from dinomask.errors import DataError
from dinomask.train.datasets import Sample, find_samples

if TYPE_CHECKING:
    from pathlib import Path

SCENE4 = {"wall_s": 1.0, "cpu_s": 0.5}
SCENE5 = {"wall_s": 3.0, "cpu_s": 2.5}


@pytest.fixture
def val(discs: Path) -> list[Sample]:
    """Two images, of the modalities a and b, six discs each."""
    return find_samples([discs], "val")


def half_right(val: list[Sample], folder: Path) -> dict[str, dict[str, float]]:
    """Write scene4 as it is and scene5 with half of its discs."""
    folder.mkdir()
    perfect, poorer = (s.read()[1] for s in val)
    write_labels(folder / "discs.scene4.tif", perfect)
    write_labels(folder / "discs.scene5.tif", np.where(poorer <= 3, poorer, 0))
    return {"discs.scene4": SCENE4, "discs.scene5": SCENE5}


def test_written_labels_are_scored(val: list[Sample], tmp_path: Path) -> None:
    times = half_right(val, tmp_path / "p")
    found = figures.report(figures.score(val, tmp_path / "p", times), "wall")
    assert found["modalities"]["a"]["ap50_95"] == found["modalities"]["a"]["seg"] == 1
    b = found["modalities"]["b"]
    assert (b["ap50"], b["ap75"], b["seg"]) == (0.5, 0.5, 0.5)
    assert b["f1_50"] == pytest.approx(2 / 3)
    mean = found["mean"]
    assert mean["ap50"] == 0.75
    assert (mean["images"], mean["objects"]) == (2, 12)
    assert (mean["seconds"], mean["total_seconds"]) == (2, 4)
    by_cpu = figures.report(figures.score(val, tmp_path / "p", times), "cpu")
    assert by_cpu["mean"]["seconds"] == 1.5


def test_a_missing_or_misfit_prediction_is_an_error(val: list[Sample], tmp_path: Path) -> None:
    folder = tmp_path / "p"
    times = half_right(val, folder)
    with pytest.raises(DataError, match="none"):
        figures.score(val, folder, {"discs.scene4": SCENE4})
    write_labels(folder / "discs.scene5.tif", np.zeros((9, 9), np.uint16))
    with pytest.raises(DataError, match=r"\(9, 9\)"):
        figures.score(val, folder, times)
    (folder / "discs.scene5.tif").unlink()
    with pytest.raises(DataError, match="scene5"):
        figures.score(val, folder, times)


def two_methods(val: list[Sample], folder: Path) -> dict[str, dict]:
    times = half_right(val, folder)
    better = figures.report(figures.score(val, folder, times), "wall")
    write_labels(folder / "discs.scene4.tif", np.zeros_like(val[0].read()[1]))
    worse = figures.report(figures.score(val, folder, times), "wall")
    training = {"minutes": 40.04, "steps": 12, "crops": 48}
    return {"ours": {**better, "training": training}, "theirs": {**worse, "training": training}}


def test_a_modality_a_row_and_a_method_a_column(val: list[Sample], tmp_path: Path) -> None:
    reports = two_methods(val, tmp_path / "p")
    assert figures.rows_of(reports, "ap50") == [
        ("a", 1, [1, 0]),
        ("b", 1, [0.5, 0.5]),
        ("mean", 2, [0.75, 0.25]),
    ]
    table = figures.markdown(reports).split("\n\n")[0].splitlines()
    assert table == [
        "| AP@0.5 | images | ours | theirs |",
        "|---|--:|--:|--:|",
        "| a | 1 | 1.000 | 0.000 |",
        "| b | 1 | 0.500 | 0.500 |",
        "| mean | 2 | 0.750 | 0.250 |",
    ]


def test_the_best_is_bold_and_seconds_are_better_when_few(
    val: list[Sample], tmp_path: Path
) -> None:
    reports = two_methods(val, tmp_path / "p")
    reports["theirs"]["modalities"]["a"]["seconds"] = 0.25
    cells = {f: list(figures.figure_table(reports, f).columns) for f in ("ap50", "seconds")}
    assert next(iter(cells["ap50"][2].cells)) == "[bold]1.000[/bold]"
    assert list(cells["ap50"][3].cells) == ["0.000", "[bold]0.500[/bold]", "0.250"]
    assert next(iter(cells["seconds"][3].cells)) == "[bold]0.25[/bold]"
    assert next(iter(cells["seconds"][2].cells)) == "1.00"


def test_budgets_stand_beside_the_means(val: list[Sample], tmp_path: Path) -> None:
    printed = io.StringIO()
    reports = two_methods(val, tmp_path / "p")
    Console(width=200, file=printed).print(figures.budget_table(reports))
    row = next(line.split() for line in printed.getvalue().splitlines() if "ours" in line)
    assert row == "ours 40.0 12 48 0.750 0.750 0.750 0.833 0.750 2.00 4".split()
