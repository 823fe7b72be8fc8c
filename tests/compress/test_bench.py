"""The bench on a small image: its figures, going on after a stop, and variants that fail."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from dinomask.compress.bench import report as report_module
from dinomask.compress.bench.chart import draw_chart
from dinomask.compress.bench.measure import STAGES, Bench
from dinomask.compress.bench.process import VariantProcess
from dinomask.compress.bench.report import bench, most_at_once, parted
from dinomask.compress.bench.variant import Variant
from dinomask.compress.material import Source
from dinomask.config import BenchConfig, SegmentConfig, TileConfig
from dinomask.errors import CancelledError, DinomaskError, EngineError, SettingsError
from dinomask.terminal import compression_table
from dinomask.train.datasets import Sample
from tests.compress.in_process import InProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dinomask.run.progress import Progress

CONFIG = BenchConfig(rounds=2, feature_tiles=1, shaken_tiles=1, shaken_px=112)
SEGMENT = SegmentConfig(threads=1, diameter_px=26.0, tiles=TileConfig(tile_px=168, halo_px=42))
VARIANTS = (
    Variant("original", "tiny", precision="fp32"),
    Variant("bf16", "tiny", methods=("bf16",), precision="bf16"),
)


class Listener:
    """Notes what it is told, and stops a bench at a stage."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.stages: list[str] = []
        self.stop_at = stop_at

    def __call__(self, progress: Progress) -> None:
        assert 0 <= progress.done <= progress.total
        if progress.stage not in self.stages:
            self.stages.append(progress.stage)
        if progress.stage == self.stop_at and progress.done > progress.resumed:
            raise CancelledError(expected="no stop", got="a wish to stop", remedy="Start it again.")


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_module, "Bench", functools.partial(Bench, start=InProcess))
        yield


@pytest.fixture(scope="module")
def sources(
    sample_nuclei: Path, sample_nuclei_labels: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Source]:
    """One labelled image, and one of another kind without labels."""
    folder = tmp_path_factory.mktemp("images")
    for name, path in (("image", sample_nuclei), ("labels", sample_nuclei_labels)):
        tifffile.imwrite(folder / f"{name}.tif", tifffile.imread(path)[:128, :128])
    image, labels = folder / "image.tif", folder / "labels.tif"
    sample = Sample("image", image, labels, "all", "nuclei", "generated")
    return [Source("image", image, sample, "generated/nuclei")]


@pytest.fixture(scope="module")
def found(
    sources: list[Source], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("bench")
    report = bench(VARIANTS, sources, folder, CONFIG, SEGMENT, other=sources)
    return report, folder


def test_every_figure_of_the_table_is_there(found: tuple[dict[str, Any], Path]) -> None:
    report, _ = found
    original, other = report["variants"]
    assert (original["name"], other["name"]) == ("original", "bf16")
    for row in report["variants"]:
        for key in ("network_ms", "image_s"):
            assert 0 < row[key]["median"] <= row[key]["p95"]
        for key in ("px_per_s", "network_px_per_s", "load_s", "first_tile_s", "size_mb"):
            assert row[key] > 0
        assert row["parameters"] == original["parameters"] > 1e6
        assert row["macs"] == original["macs"] > 1e8
        assert row["peak_memory_mb"] > row["model_memory_mb"] >= 0
        assert set(row["robustness"]) >= {"clean", "noise", "rotation", "fgsm"}
        assert 0 <= row["robustness"]["fgsm"] <= row["robustness"]["clean"] <= 1
        assert row["other_domain"]["gap_ap50"] == pytest.approx(0)
    assert original["quality"]["against"] == "labels"
    assert original["quality"]["ap50"] > 0.5
    assert original["quality"]["boundary_iou"] > 0.3
    assert report["machine"]["threads"] == 1
    assert json.loads(json.dumps(report))["recommendation"] == report["recommendation"]


def test_the_original_agrees_with_itself(found: tuple[dict[str, Any], Path]) -> None:
    original, other = found[0]["variants"]
    assert original["speedup"] == original["network_speedup"] == 1
    assert original["stability"]["s"] == pytest.approx(1)
    assert original["quality"]["agreement"] == 1
    assert original["features"]["cka"] == pytest.approx(1)
    assert other["features"]["cka"] > 0.99
    assert other["features"]["relative_distance"] > 0


def test_what_differs_is_listed_with_its_place(found: tuple[dict[str, Any], Path]) -> None:
    quality, listed = (found[0]["variants"][1][k] for k in ("quality", "disagreements"))
    assert len(listed) == 2
    for name in ("lost", "gained", "changed"):
        assert len(listed[0][name]) == quality[name]
    assert listed[0]["same"] == quality["same"] > 0


def test_table_and_chart_show_it(found: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    report, _ = found
    assert compression_table(report).row_count == 2
    draw_chart(report, tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 10_000


def test_a_bench_that_is_done_is_not_done_again(
    found: tuple[dict[str, Any], Path], sources: list[Source]
) -> None:
    report, folder = found
    listener = Listener()
    again = bench(VARIANTS, sources, folder, CONFIG, SEGMENT, other=sources, on_progress=listener)
    assert again == report
    assert listener.stages == ["score"]


@pytest.mark.parametrize("stage", (STAGES[1], STAGES[4]))
def test_it_goes_on_where_it_was_stopped(stage: str, sources: list[Source], tmp_path: Path) -> None:
    variants = VARIANTS[:1]
    with pytest.raises(CancelledError):
        bench(variants, sources * 2, tmp_path, CONFIG, SEGMENT, on_progress=Listener(stage))
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "units").iterdir()}
    assert not any(name.startswith("finished") for name in kept)
    report = bench(variants, sources * 2, tmp_path, CONFIG, SEGMENT)
    assert len(report["variants"]) == 1
    for name, time_ns in kept.items():
        assert (tmp_path / "units" / name).stat().st_mtime_ns == time_ns, name


class Failing(InProcess):
    """Loads, and fails at the second image."""

    def ask(self, what: str, **arguments: Any) -> Any:
        if what == "segment" and self.loaded.predictor.precision == "bf16":
            raise EngineError(expected="an answer", got="the end of the process", remedy="None.")
        return super().ask(what, **arguments)


def test_a_variant_that_fails_is_left_out_and_the_others_go_on(
    sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "Bench", functools.partial(Bench, start=Failing))
    report = bench(VARIANTS, sources, tmp_path, CONFIG, SEGMENT)
    assert [row["name"] for row in report["variants"]] == ["original"]
    assert "end of the process" in report["failed"]["bf16"]
    assert report["recommended"] is None


def test_without_labels_the_original_is_the_measure(sources: list[Source], tmp_path: Path) -> None:
    bare = [Source("image", sources[0].image, None, "mine")]
    report = bench(VARIANTS, bare, tmp_path, CONFIG, SEGMENT)
    original, other = report["variants"]
    assert original["quality"]["against"] == "the original"
    assert original["quality"]["ap50"] == 1
    assert other["quality"]["ap50"] > 0.8
    assert original["robustness"]["clean"] == 1


@pytest.mark.slow
def test_a_process_of_its_own_answers_and_ends() -> None:
    ticks: list[int] = []
    with VariantProcess("tiny", SEGMENT, lambda: ticks.append(1)) as process:
        tile = np.zeros((3, 112, 112), np.float32)
        times = process.ask("time_tile", tile=tile)
        assert times["network"]["wall"] > 0
        with pytest.raises(DinomaskError, match="AttributeError"):
            process.ask("dance")
        pid = process._process.pid
        assert pid is not None
    assert ticks
    assert not psutil.pid_exists(pid)


def test_a_variant_that_can_not_be_loaded_says_why() -> None:
    config = SegmentConfig(model="nothing")
    with VariantProcess("nothing", config, lambda: None) as process:
        with pytest.raises(DinomaskError, match="'nothing'"):
            process.wait_until_ready()


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), most=st.integers(2, 12))
def test_groups_hold_every_variant_once_and_the_original_always(n: int, most: int) -> None:
    variants = [Variant(str(i), "tiny") for i in range(n)]
    groups = parted(variants, most)
    assert all(group[0] is variants[0] and len(group) <= most for group in groups)
    assert [v for group in groups for v in group[1:]] == variants[1:]
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_groups_give_one_report(sources: list[Source], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, shaken_tiles=0, feature_tiles=0, variants_at_once=2)
    three = (*VARIANTS, Variant("again", "tiny", methods=("fuse",), precision="fp32"))
    report = bench(three, sources, tmp_path, config, SEGMENT)
    assert [row["name"] for row in report["variants"]] == ["original", "bf16", "again"]
    assert report["groups"] == [["original", "bf16"], ["original", "again"]]
    again = report["variants"][2]
    assert again["quality"]["agreement"] == 1
    assert again["speedup"] > 0


def test_at_least_two_fit_at_once() -> None:
    assert most_at_once() >= 2
    with pytest.raises(SettingsError, match="variants at once"):
        BenchConfig(variants_at_once=1)
