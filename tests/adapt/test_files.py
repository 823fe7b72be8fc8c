"""Adapters on disk: exact, small, and only ever on their own base."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
import torch

from dinomask.adapt.files import (
    MANIFEST_FILE,
    TENSORS_FILE,
    load_adapter,
    read_adapter_manifest,
    save_adapter,
)
from dinomask.config import LoraSettings
from dinomask.errors import ModelError, OutputError
from dinomask.nets.catalogue import Manifest
from dinomask.nets.lora import lora_layers
from tests.limits import full_disk
from tests.nets.small import small_config, small_model
from tests.nets.taught import output, taught

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

BASE = Manifest("base", small_config(), weights_sha256="a" * 64)


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    return torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))


def test_saved_and_loaded_predicts_the_same_to_the_bit(tmp_path: Path, tiles: Tensor) -> None:
    settings = LoraSettings(rank=4, block_ranks=((2, 6),), dropout=0.1)
    model, adapter = taught(settings)
    written = save_adapter(tmp_path / "mine", adapter, BASE, provenance={"objects": 12})
    assert read_adapter_manifest(tmp_path / "mine") == written
    assert written.name == "mine"
    assert written.settings == dataclasses.replace(settings, blocks=(2, 3))
    assert written.provenance == {"objects": 12}
    other = small_model()
    loaded = load_adapter(tmp_path / "mine", other, BASE)
    assert torch.equal(output(other, tiles), output(model, tiles))
    with loaded.disabled():
        assert torch.equal(output(other, tiles), output(small_model(), tiles))


def test_an_adapter_is_as_small_as_its_weights(tmp_path: Path) -> None:
    _, adapter = taught()
    save_adapter(tmp_path / "a", adapter, BASE)
    folder = {p.name for p in (tmp_path / "a").iterdir()}
    assert folder == {TENSORS_FILE, MANIFEST_FILE}
    weights = sum(v.numel() for v in adapter.state().values())
    assert (tmp_path / "a" / TENSORS_FILE).stat().st_size < 4 * weights + 20_000


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "mine"
    save_adapter(folder, taught()[1], BASE)
    return folder


def test_the_wrong_base_is_refused(saved: Path, tiles: Tensor) -> None:
    model = small_model()
    other = dataclasses.replace(BASE, name="other", weights_sha256="b" * 64)
    with pytest.raises(ModelError) as caught:
        load_adapter(saved, model, other)
    assert "'base' with the hash aaaaaaaaaaaa" in caught.value.expected
    assert "'other' with the hash bbbbbbbbbbbb" in caught.value.got
    assert "taught on" in caught.value.remedy
    assert torch.equal(output(model, tiles), output(small_model(), tiles))


def copy_of(saved: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_damage_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = copy_of(saved, tmp_path / "damaged")
    content = bytearray((folder / TENSORS_FILE).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS_FILE).write_bytes(content)
    with pytest.raises(ModelError, match="another hash"):
        load_adapter(folder, small_model(), BASE)
    (folder / TENSORS_FILE).unlink()
    with pytest.raises(ModelError, match=TENSORS_FILE):
        load_adapter(folder, small_model(), BASE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2, "news": 1}, "Update DINOmask"),
        ({"format": "x"}, r"adapter\.json"),
        ({"settings": {}}, r"adapter\.json"),
        ({"settings": {"rank": 0}}, r"adapter\.json"),
        ({"news": 1}, r"adapter\.json"),
    ],
)
def test_foreign_manifests(
    saved: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    folder = copy_of(saved, tmp_path / "foreign")
    raw = json.loads((folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps(raw | changes))
    with pytest.raises(ModelError, match=message):
        load_adapter(folder, small_model(), BASE)


def test_tensors_of_other_settings_leave_the_model_alone(
    saved: Path, tmp_path: Path, tiles: Tensor
) -> None:
    folder = copy_of(saved, tmp_path / "mixed")
    raw = json.loads((folder / MANIFEST_FILE).read_text())
    raw["settings"]["rank"] = 5
    (folder / MANIFEST_FILE).write_text(json.dumps(raw))
    model = small_model()
    with pytest.raises(ModelError, match="written together"):
        load_adapter(folder, model, BASE)
    assert torch.equal(output(model, tiles), output(small_model(), tiles))
    assert not list(lora_layers(model))


def test_an_adapter_is_not_overwritten_unasked(saved: Path) -> None:
    _, adapter = taught()
    with pytest.raises(OutputError, match="overwrite"):
        save_adapter(saved, adapter, BASE)
    before = (saved / TENSORS_FILE).read_bytes()
    with full_disk(), pytest.raises(OutputError, match="intact"):
        save_adapter(saved, adapter, BASE, overwrite=True)
    assert (saved / TENSORS_FILE).read_bytes() == before
    load_adapter(saved, small_model(), BASE)
