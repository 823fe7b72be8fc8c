"""What the panel says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dinomask.config import ModelConfig
from dinomask.errors import InputError
from dinomask.image.doctor import Finding
from dinomask.nets.catalogue import Manifest
from dinomask.run.detect import FailedTile
from dinomask.run.progress import Progress
from napari_dinomask.session import LayerFacts
from napari_dinomask.wording import (
    say_cancelled,
    say_duration,
    say_error,
    say_failed_tiles,
    say_finding,
    say_layer,
    say_model,
    say_progress,
    say_result,
    say_resumed,
)

FACTS = LayerFacts("cells", (512, 2048), 1, False, (0.5, 0.5), (("z", 2, 10),))


def _plain(text: str) -> str:
    """Numbers stay with their units on screen; here any space will do."""
    return text.replace("\u00a0", " ")


def _table(*diameters_px: float) -> pd.DataFrame:
    return pd.DataFrame({"area_px": np.pi / 4 * np.array(diameters_px) ** 2})


def test_result_counts_cells_and_gives_their_median_size() -> None:
    text = _plain(say_result(_table(10, 18.2, 40), FACTS, 3.42))
    assert text == "3 cells, median 18.2 px (9.1 µm), 3.4 s"
    assert _plain(say_result(_table(12), FACTS, 61)).startswith("1 cell, ")
    assert _plain(say_result(_table(), FACTS, 2)) == "No cells found, 2.0 s"


def test_result_of_all_planes_counts_planes_and_linked_objects() -> None:
    whole = dataclasses.replace(FACTS, whole=True)
    text = _plain(say_result(_table(10, 18.2, 40), whole, 3.42, 1))
    assert text == "3 cells in 10 planes, linked into 1 object, median 18.2 px (9.1 µm), 3.4 s"
    assert _plain(say_result(_table(), whole, 2, 0)) == "No cells found in 10 planes, 2.0 s"
    assert say_layer(whole).endswith("all 10 planes: z = 0 to 9")


def test_progress_says_stage_tile_and_time_left() -> None:
    assert _plain(say_progress(Progress("detect", 3, 12, 6.0))) == (
        "Finding objects · tile 3 of 12 · 18 s left"
    )
    assert say_progress(Progress("load", 0, 0, 0.0)).endswith("…")


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.42, "3.4 s"), (47, "47 s"), (300, "5 min"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert _plain(say_duration(seconds)) == text


def test_layer_tells_its_plane() -> None:
    assert say_layer(FACTS) == "2,048 × 512 px · the plane on display: z = 2"


def test_error_gives_all_three_parts_and_cannot_inject_markup() -> None:
    text = say_error(InputError(expected="a picture", got="<nan>", remedy="Replace it."))
    assert all(part in text for part in ("a picture", "&lt;nan&gt;", "Replace it."))


def test_model_is_described_by_its_size_and_training_data() -> None:
    manifest = Manifest("tiny", ModelConfig(), trained_on=({"name": "dsb2018"},))
    assert say_model(manifest) == "Tiny vision transformer · trained on dsb2018"


@pytest.mark.parametrize("backbone", ["swin_tiny_patch4_window7_224", "convnext_tiny", "resnet18"])
def test_other_backbones_go_by_their_names(backbone: str) -> None:
    assert say_model(Manifest("mine", ModelConfig(backbone=backbone))) == backbone


def test_a_finding_gives_no_hints_for_the_command_line() -> None:
    finding = Finding("warning", "Nothing was found.", "Give a size (--diameter PX).")
    assert say_finding(finding) == "Nothing was found. <i>Give a size.</i>"


def test_a_run_says_its_speed_and_what_a_pause_waits_at() -> None:
    progress = Progress("detect", 30, 100, 10.0, resumed=10)
    assert _plain(say_progress(progress, 10_000_000)).endswith("35 s left · 200 kpx/s")
    assert _plain(say_progress(progress, 10**9)).endswith("20.0 Mpx/s")
    assert "px/s" not in say_progress(Progress("detect", 10, 100, 10.0, resumed=10), 10**9)
    paused = dataclasses.replace(progress, stage="pause")
    assert say_progress(paused, 10**9) == "Paused · tile 30 of 100"
    assert say_resumed(progress) == "10 of 100 tiles are done already."


def test_a_cancelled_run_says_what_is_kept() -> None:
    progress = Progress("detect", 37, 120, 10.0)
    assert "37 of 120 tiles are kept" in say_cancelled(progress, Path("a.zarr"))
    assert "nothing was changed" in say_cancelled(progress, None)
    assert "nothing was changed" in say_cancelled(Progress("load", 0, 0, 0.0), Path("a.zarr"))


def test_remedies_for_a_terminal_are_said_for_a_panel() -> None:
    error = InputError(
        expected="a",
        got="b",
        remedy="Give the same settings to go on, or add --restart to begin anew.",
    )
    assert "or start over." in say_error(error)
    assert "--" not in say_error(error)


def test_failed_tiles_are_counted_with_their_reasons() -> None:
    tiles = [FailedTile(i, (0, 0, 1, 1), f"reason <{i % 5}>") for i in range(12)]
    text = say_failed_tiles(tiles)
    assert "12 tiles failed" in text
    assert "reason &lt;0&gt;" in text
    assert text.count("reason") == 3
