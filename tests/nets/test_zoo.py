"""Checkpoints: what is saved is what is loaded, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from dinomask.config import ModelConfig
from dinomask.errors import ModelError, OutputError
from dinomask.nets.backbone import TINY
from dinomask.nets.catalogue import MANIFEST_FILE, Manifest, find_model, list_models, read_manifest
from dinomask.nets.centermask import CenterMask
from dinomask.nets.zoo import (
    FORMAT,
    WEIGHTS_FILE,
    file_sha256,
    load_model,
    load_weights,
    save_checkpoint,
    write_atomically,
)
from tests.limits import full_disk
from tests.nets.small import small_config

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model() -> CenterMask:
    torch.manual_seed(0)
    return CenterMask(small_config())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, model: CenterMask) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "mine"
    manifest = Manifest(
        "mine",
        model.config,
        score_threshold=0.4,
        trained_on=({"name": "discs", "licence": "CC0"},),
        metrics={"AP@0.5": 0.9},
        licence="BSD-3-Clause",
    )
    save_checkpoint(folder, model.state_dict(), manifest)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "mine")


def rewrite(folder: Path, **changes: object) -> None:
    raw = json.loads((folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps(raw | changes))


def test_round_trip_within_half_precision(saved: Path, model: CenterMask) -> None:
    loaded, manifest = load_model(str(saved))
    assert not loaded.training
    assert manifest.architecture == model.config
    assert manifest.score_threshold == 0.4
    assert manifest.trained_on == ({"name": "discs", "licence": "CC0"},)
    assert manifest.weights_sha256 == file_sha256(saved / WEIGHTS_FILE)
    # as close as half precision stores them, its subnormal step for the smallest
    torch.testing.assert_close(
        dict(loaded.state_dict()), dict(model.state_dict()), rtol=2**-11, atol=2**-25
    )


def test_saving_what_was_loaded_changes_nothing(saved: Path, tmp_path: Path) -> None:
    loaded, manifest = load_model(str(saved))
    again = save_checkpoint(tmp_path / "again", loaded.state_dict(), manifest)
    assert again == manifest


def test_a_damaged_file_has_another_hash(copied: Path) -> None:
    content = bytearray((copied / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (copied / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(ModelError, match="of another hash"):
        load_model(str(copied))


def test_missing_weights(copied: Path) -> None:
    (copied / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match="missing"):
        load_model(str(copied))


def test_weights_of_another_architecture(copied: Path) -> None:
    other = dataclasses.asdict(dataclasses.replace(small_config(), pyramid_width=24))
    rewrite(copied, architecture=other)
    with pytest.raises(ModelError, match="size mismatch"):
        load_model(str(copied))


def test_a_file_that_is_no_safetensors(copied: Path, model: CenterMask) -> None:
    (copied / WEIGHTS_FILE).write_bytes(b"not weights")
    with pytest.raises(ModelError, match="fit the model's architecture"):
        load_weights(model, copied / WEIGHTS_FILE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"format": 1, "name": "x"}',
        '{"format": "new", "name": "x", "architecture": {}}',
        '{"format": 1, "name": "x", "architecture": {"layers": 50}}',
        '{"format": 1, "name": "x", "architecture": {"n_classes": 0}}',
    ],
)
def test_foreign_manifests(copied: Path, text: str) -> None:
    (copied / MANIFEST_FILE).write_text(text)
    with pytest.raises(ModelError, match=r"manifest\.json of DINOmask"):
        read_manifest(copied)


def test_an_unknown_backbone_in_a_manifest(copied: Path) -> None:
    rewrite(copied, architecture={"backbone": "resnet51"})
    with pytest.raises(ModelError, match=f"Choose one of: {TINY}"):
        load_model(str(copied))


def test_a_later_format_says_to_update_even_with_new_fields(copied: Path) -> None:
    rewrite(copied, format=FORMAT + 1, invention=True)
    with pytest.raises(ModelError, match="Update DINOmask"):
        read_manifest(copied)


def test_models_are_found_by_name_and_path(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINOMASK_MODELS", str(saved.parent))
    assert list_models()["mine"] == saved
    assert find_model("mine") == saved
    assert find_model(str(saved)) == saved


def test_an_unknown_name_lists_the_known_ones(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINOMASK_MODELS", str(saved.parent))
    with pytest.raises(ModelError, match=r"Known models: .*mine"):
        load_model("yours")
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="'mine'"):
        load_model("mine")


def test_a_full_disk_leaves_the_old_checkpoint(copied: Path, model: CenterMask) -> None:
    before = read_manifest(copied)
    doubled = {name: value * 2 for name, value in model.state_dict().items()}
    with full_disk(), pytest.raises(OutputError, match="old file is intact"):
        save_checkpoint(copied, doubled, Manifest("mine", model.config))
    assert load_model(str(copied))[1] == before
    assert {p.name for p in copied.iterdir()} == {WEIGHTS_FILE, MANIFEST_FILE}


def test_a_manifest_that_fails_leaves_the_old_weights(copied: Path, model: CenterMask) -> None:
    before = file_sha256(copied / WEIGHTS_FILE)
    # a folder where the manifest's temporary file belongs: it can't be opened
    (copied / f".{MANIFEST_FILE}.{os.getpid()}.tmp").mkdir()
    doubled = {name: value * 2 for name, value in model.state_dict().items()}
    with pytest.raises(OutputError, match=r"manifest\.json"):
        save_checkpoint(copied, doubled, Manifest("mine", model.config))
    assert file_sha256(copied / WEIGHTS_FILE) == before


def test_write_atomically_into_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(OutputError):
        write_atomically(tmp_path / "file" / "below", b"content")
    write_atomically(tmp_path / "new" / "name", b"content")
    assert (tmp_path / "new" / "name").read_bytes() == b"content"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["name"]


def test_architectures_survive_json() -> None:
    config = ModelConfig(n_classes=4, target_diameter_px=20.0)
    assert ModelConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_numbers_beyond_half_precision_are_kept_whole(tmp_path: Path) -> None:
    # as variances of a batch norm can be
    state = {"large": torch.tensor([1.0, 1e6]), "small": torch.tensor([0.1])}
    save_checkpoint(tmp_path / "wide", state, Manifest("wide", small_config()))
    stored = load_file(tmp_path / "wide" / WEIGHTS_FILE)
    assert torch.equal(stored["large"], state["large"])
    assert stored["small"].dtype == torch.float16
