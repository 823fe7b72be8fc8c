"""What comes out of a compression is an ordinary model, under a name, with its history."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch

from dinomask.compress.pipeline import compress
from dinomask.compress.work import CompressionWarning
from dinomask.config import DetectConfig, SegmentConfig
from dinomask.errors import CancelledError, OutputError, SettingsError
from dinomask.nets.catalogue import find_model, read_manifest
from dinomask.nets.zoo import load_model
from dinomask.run.predictor import Predictor
from tests.nets.tiny_adapter import write_tiny_adapter


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """A folder of models of each test's own."""
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def tile():
    chance = np.random.default_rng(0)
    return chance.random((3, 112, 112), np.float32)


def test_a_merged_adapter_predicts_as_the_adapter_on_its_checkpoint(models, sample_nuclei):
    pixels = tifffile.imread(sample_nuclei)[:112, :112].astype(np.float32)
    tile = np.repeat((pixels / pixels.max())[None], 3, axis=0)
    write_tiny_adapter(models / "adapters" / "nuclei", score_threshold=0.2)
    made = compress("tiny", ["merge"], adapter="nuclei")
    config = DetectConfig()
    with_adapter = Predictor.load(SegmentConfig(adapter="nuclei", threads=1)).detect(tile, config)
    merged = Predictor.load(SegmentConfig(model=made.name, threads=1)).detect(tile, config)
    assert made.name == "nuclei-merge" and find_model(made.name) == made.folder
    # weights are stored in half precision, so one just above the threshold may fall below it
    sure = int((with_adapter.scores > 0.25).sum())
    assert sure > 3
    np.testing.assert_allclose(merged.scores[:sure], with_adapter.scores[:sure], atol=5e-3)
    assert read_manifest(made.folder).score_threshold == 0.2


def test_an_adapter_is_merged_before_anything_but_its_own_compression(models):
    write_tiny_adapter(models / "adapters" / "nuclei")
    made = compress("tiny", ["fp16"], adapter="nuclei")
    assert made.kind == "model" and read_manifest(made.folder).precision == "fp16"
    own = compress("tiny", ["lora-int8"], adapter="nuclei")
    assert own.kind == "adapter" and own.folder == models / "adapters" / own.name


def test_the_manifest_tells_source_steps_and_sizes(models):
    with pytest.warns(CompressionWarning, match="merge is left out: there is no adapter"):
        made = compress("tiny", ["fp16", "merge"])
    record = read_manifest(made.folder).compression
    assert record["source"]["weights_sha256"] == read_manifest(find_model("tiny")).weights_sha256
    assert [step["method"] for step in record["steps"]] == ["fp16"]
    assert record["skipped"] == [{"method": "merge", "reason": "there is no adapter to merge"}]
    assert record["after"]["bytes"] == pytest.approx(record["before"]["bytes"], rel=0.05)
    assert list(models.iterdir()) == [made.folder]


@pytest.mark.filterwarnings("ignore:bfloat16 is slower")
def test_a_precision_is_used_where_it_is_left_to_the_model(models):
    made = compress("tiny", ["bf16"])
    load = Predictor.load
    assert load(SegmentConfig(model=made.name, threads=1)).dtype == torch.bfloat16
    assert load(SegmentConfig(model=made.name, precision="fp32", threads=1)).precision == "fp32"


def test_nothing_is_left_of_a_compression_that_was_stopped(models):
    def stop(progress):
        raise CancelledError(expected="to go on", got="a wish to stop", remedy="Start again.")

    with pytest.raises(CancelledError):
        compress("tiny", ["fp16"], on_progress=stop)
    assert not any(models.iterdir())


def test_results_are_not_overwritten_unasked(models):
    made = compress("tiny", ["fp16"])
    before = (made.folder / "manifest.json").stat().st_ino
    with pytest.raises(OutputError, match="--overwrite"):
        compress("tiny", ["fp16"])
    compress("tiny", ["fp16"], overwrite=True)
    assert (made.folder / "manifest.json").stat().st_ino != before
    assert load_model(made.name)[1].precision == "fp16"


def test_bundled_models_are_never_replaced(models):
    with pytest.raises(OutputError, match="bundled"):
        compress("tiny", ["fp16"], find_model("tiny"), overwrite=True)


def test_it_is_an_error_if_no_method_can_be_applied(models):
    with (
        pytest.warns(CompressionWarning),
        pytest.raises(SettingsError, match="merge: there is no adapter"),
    ):
        compress("tiny", ["merge"])
