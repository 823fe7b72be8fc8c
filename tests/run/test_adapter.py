"""A run with an adapter: it is put on, wherever tiles are worked through, and told."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from dinomask.config import DetectConfig, EngineConfig, SegmentConfig, TileConfig
from dinomask.errors import DinomaskError, ModelError, SettingsError
from dinomask.image import fit_normaliser, open_image
from dinomask.nets.adapters import read_adapter_manifest
from dinomask.run.engines import make_engine
from dinomask.run.engines.job import Job, load_predictor
from dinomask.run.engines.tile_work import TileWork
from dinomask.run.predictor import Predictor
from dinomask.run.resuming import run_key
from dinomask.run.segment import segment
from dinomask.run.size import FIRST_GUESS_PX, estimate_diameter
from dinomask.tiles.plan import plan_tiles
from tests.nets.tiny_adapter import write_tiny_adapter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BARE = SegmentConfig(diameter_px=26.0, threads=1, tiles=TileConfig(tile_px=224, halo_px=56))
TAUGHT = dataclasses.replace(BARE, adapter="taught")


@pytest.fixture(scope="module", autouse=True)
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DINOMASK_MODELS", str(home))
        folder = home / "adapters" / "taught"
        write_tiny_adapter(folder, score_threshold=0.37, diameter_px=24.0)
        yield folder


@pytest.fixture(scope="module")
def bare() -> Predictor:
    return Predictor.load(BARE)


@pytest.fixture(scope="module")
def taught() -> Predictor:
    return Predictor.load(TAUGHT)


@pytest.fixture(scope="module")
def path(sample_nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "nuclei.tif"
    tifffile.imwrite(path, tifffile.imread(sample_nuclei)[:200, :260])
    return path


def test_it_changes_what_is_found_and_is_told(path: Path, bare: Predictor, adapter: Path) -> None:
    image = open_image(path)
    without = segment(image, config=BARE, predictor=bare)
    result = segment(image, config=TAUGHT)
    assert len(result.table) > 10
    assert not np.array_equal(result.table["score"], without.table["score"])
    sha256 = read_adapter_manifest(adapter).tensors_sha256
    assert result.report["adapter"] == {"name": "taught", "sha256": sha256}
    assert result.report["settings"]["adapter"] == "taught"
    assert without.report["adapter"] is None


def test_a_folder_names_it_too(adapter: Path, taught: Predictor) -> None:
    found = Predictor.load(dataclasses.replace(BARE, adapter=str(adapter)))
    assert found.adapter == taught.adapter


def test_the_threshold_is_the_users_then_the_adapters_then_the_models(
    bare: Predictor, taught: Predictor
) -> None:
    asked, unsaid = DetectConfig(score_threshold=0.2), DetectConfig()
    assert taught.score_threshold(asked) == bare.score_threshold(asked) == 0.2
    assert taught.score_threshold(unsaid) == 0.37
    assert bare.score_threshold(unsaid) == bare.manifest.score_threshold
    assert taught.adapter is not None
    silent = dataclasses.replace(taught.adapter, score_threshold=None)
    silently = dataclasses.replace(taught, adapter=silent)
    assert silently.score_threshold(unsaid) == bare.manifest.score_threshold


def test_runs_with_and_without_it_do_not_mix(
    path: Path, bare: Predictor, taught: Predictor, tmp_path: Path
) -> None:
    image = open_image(path)
    plan = plan_tiles(image.shape_yx, 1.0, BARE.tiles)
    keys = [run_key(image, p, c, plan) for p, c in ((bare, BARE), (taught, TAUGHT))]
    assert taught.adapter is not None
    assert keys[1]["adapter"] == taught.adapter.tensors_sha256
    assert keys[0] == {k: v for k, v in keys[1].items() if k != "adapter"} | {
        "score_threshold": bare.manifest.score_threshold
    }
    out = tmp_path / "o.zarr"
    segment(image, out, BARE, predictor=bare)
    with pytest.raises(DinomaskError, match="settings"):
        segment(image, out, TAUGHT, overwrite=True, predictor=taught)


@pytest.mark.parametrize("name", ["processes", pytest.param("dask", marks=pytest.mark.slow)])
def test_other_processes_put_it_on_too(name: str, path: Path, taught: Predictor) -> None:
    image = open_image(path)
    once = segment(image, config=TAUGHT, predictor=taught)
    with make_engine(EngineConfig(name, 1)) as engine:  # type: ignore[arg-type]
        result = segment(image, config=TAUGHT, predictor=taught, engine=engine)
    assert once.labels_yx is not None
    np.testing.assert_array_equal(result.labels_yx, once.labels_yx)
    assert result.table.equals(once.table)


def work_of(path: Path, config: SegmentConfig) -> TileWork:
    image = open_image(path)
    plan = plan_tiles(image.shape_yx, 1.0, config.tiles)
    return TileWork(image, fit_normaliser(image), plan, config)


def test_a_worker_with_another_adapter_says_so(
    path: Path, bare: Predictor, taught: Predictor
) -> None:
    with pytest.raises(ModelError, match=r"none; got .* on a worker"):
        load_predictor(Job.of(work_of(path, TAUGHT), bare))
    with pytest.raises(ModelError, match="got none on a worker"):
        load_predictor(Job.of(work_of(path, BARE), taught))


def test_a_bare_predictor_is_not_taken_for_a_taught_one(path: Path, bare: Predictor) -> None:
    with pytest.raises(SettingsError, match="taught"):
        segment(open_image(path), config=TAUGHT, predictor=bare)


def test_unknown_adapters_are_refused_with_the_known_names() -> None:
    with pytest.raises(ModelError, match="Known adapters: taught"):
        Predictor.load(dataclasses.replace(BARE, adapter="untaught"))


def test_the_size_is_first_looked_for_where_it_was_taught(path: Path, taught: Predictor) -> None:
    image = open_image(path)
    assert taught.adapter is not None
    sizes = []
    for diameter_px in (24.0, 200.0, None):
        manifest = dataclasses.replace(taught.adapter, diameter_px=diameter_px)
        predictor = dataclasses.replace(taught, adapter=manifest)
        looks: list[int] = []
        seen = estimate_diameter(
            image, fit_normaliser(image), predictor, lambda p, n=looks: n.append(p.total)
        )
        assert seen.diameter_px is not None
        sizes.append(seen.diameter_px)
        # a guess far off costs looks, never the result
        assert looks[0] == (7 if diameter_px is None else 8)
    assert sizes == pytest.approx([sizes[2]] * 3, rel=0.15)
    assert sizes[2] < FIRST_GUESS_PX
