"""Models and adapters as one file: whole, checked, and never a way to write elsewhere."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest

from dinomask.adapt import packing
from dinomask.adapt.packing import add, export
from dinomask.adapt.shelf import find_entry, list_shelf
from dinomask.errors import DinomaskError, ModelError, OutputError, SettingsError
from dinomask.nets.adapter_manifest import read_adapter_manifest
from dinomask.nets.catalogue import BUNDLED, read_manifest
from dinomask.nets.zoo import load_model
from tests.adapt.shelves import put_adapter
from tests.limits import full_disk

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return other_shelf(tmp_path / "models", monkeypatch)


def other_shelf(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home.mkdir()
    monkeypatch.setenv("DINOMASK_MODELS", str(home))
    return home


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_adapter_travels_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_adapter("powder", 0.3, notes="of Tuesday", score_threshold=0.4)
    before = everything(path)
    export("powder", tmp_path / "p.zip")
    export("powder", tmp_path / "again.zip")
    assert (tmp_path / "p.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    home = other_shelf(tmp_path / "elsewhere", monkeypatch)
    entry = add(tmp_path / "p.zip")
    assert entry.folder == home / "adapters" / "powder"
    assert everything(entry.folder) == before


def test_a_model_travels_unchanged(tmp_path: Path) -> None:
    export("tiny", tmp_path / "t.zip")
    entry = add(tmp_path / "t.zip", "mine")
    _, manifest = load_model("mine")
    assert manifest.name == "mine"
    assert manifest.weights_sha256 == read_manifest(BUNDLED / "tiny").weights_sha256
    assert entry.kind == "model"
    assert (entry.folder / "model.safetensors").read_bytes() == (
        BUNDLED / "tiny" / "model.safetensors"
    ).read_bytes()


def test_a_new_name_is_its_name_everywhere(tmp_path: Path) -> None:
    put_adapter("powder")
    export("powder", tmp_path / "p.zip")
    assert read_adapter_manifest(add(tmp_path / "p.zip", "sand").folder).name == "sand"


def test_folders_are_added_too(tmp_path: Path) -> None:
    outside = put_adapter("dust", folder=tmp_path / "dust")
    assert add(outside).name == "dust"
    assert outside.exists()
    with pytest.raises(ModelError, match="without one"):
        add(tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = put_adapter("powder", 0.3)
    export("powder", tmp_path / "p.zip")
    with pytest.raises(OutputError, match="--overwrite"):
        export("powder", tmp_path / "p.zip")
    export("powder", tmp_path / "p.zip", overwrite=True)
    with pytest.raises(OutputError, match=r"\.zip"):
        export("powder", tmp_path / "p.tar")
    shutil.rmtree(path)
    put_adapter("powder", 0.5)
    before = everything(path)
    with pytest.raises(OutputError, match="taken"):
        add(tmp_path / "p.zip")
    export("tiny", tmp_path / "t.zip")
    with pytest.raises(OutputError, match="taken"):
        add(tmp_path / "t.zip")
    assert everything(path) == before


def repacked(source: Path, target: Path, files: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(target, "w") as packed:
        for name, content in files:
            packed.writestr(name, content)
    return target


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, bytes]:
    """The two files of an adapter that isn't on the shelf."""
    return everything(put_adapter("powder", folder=tmp_path / "source"))


def refused(tmp_path: Path, files: list[tuple[str, bytes]]) -> DinomaskError:
    """Add a zip that must be refused, and make sure that it leaves nothing anywhere."""
    path = repacked(tmp_path, tmp_path / "bad.zip", files)
    before = everything(tmp_path)
    with pytest.raises(DinomaskError) as caught:
        add(path)
    assert everything(tmp_path) == before
    assert [e.name for e in list_shelf()] == ["tiny"]
    return caught.value


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "..\\evil", "C:\\evil", "folder/adapter.json", "evil.py"]
)
def test_members_elsewhere_are_refused(tmp_path: Path, parts: dict[str, bytes], name: str) -> None:
    found = refused(tmp_path, [*parts.items(), (name, b"evil")])
    assert isinstance(found, ModelError)
    moved = [(name, parts["adapter.safetensors"]), ("adapter.json", parts["adapter.json"])]
    refused(tmp_path, moved)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_odd_collections_are_refused(tmp_path: Path, parts: dict[str, bytes]) -> None:
    items = [*parts.items()]
    refused(tmp_path, [])
    refused(tmp_path, items[:1])
    refused(tmp_path, [*items, ("adapter.json", parts["adapter.json"])])
    refused(tmp_path, [("manifest.json", b"{}"), ("adapter.safetensors", b"")])


@pytest.mark.parametrize("name", ["../evil", "/evil", "", ".", "a/b", "con", 3, None])
def test_the_name_within_is_not_trusted(
    tmp_path: Path, parts: dict[str, bytes], name: object
) -> None:
    raw = json.loads(parts["adapter.json"]) | {"name": name}
    files = [*(parts | {"adapter.json": json.dumps(raw).encode()}).items()]
    assert isinstance(refused(tmp_path, files), SettingsError | ModelError)


def test_other_tensors_are_refused(tmp_path: Path, parts: dict[str, bytes]) -> None:
    tensors = bytearray(parts["adapter.safetensors"])
    tensors[-1] ^= 1
    files = [*(parts | {"adapter.safetensors": bytes(tensors)}).items()]
    assert "another hash" in refused(tmp_path, files).got


def test_what_holds_no_tensors_is_refused(tmp_path: Path, parts: dict[str, bytes]) -> None:
    import hashlib

    evil = b"cos\nsystem\n(S'true'\ntR."
    raw = json.loads(parts["adapter.json"]) | {"tensors_sha256": hashlib.sha256(evil).hexdigest()}
    files = {"adapter.json": json.dumps(raw).encode(), "adapter.safetensors": evil}
    refused(tmp_path, [*files.items()])


def test_damaged_files_are_refused(tmp_path: Path, shelf: Path) -> None:
    put_adapter("powder")
    export("powder", tmp_path / "p.zip")
    shutil.rmtree(shelf / "adapters")
    whole = (tmp_path / "p.zip").read_bytes()
    for i in range(0, len(whole), 7):
        content = bytearray(whole)
        content[i] ^= 0x55
        (tmp_path / "bad.zip").write_bytes(content)
        try:
            entry = add(tmp_path / "bad.zip")
        except DinomaskError:
            assert not any((shelf / "adapters").iterdir() if (shelf / "adapters").exists() else ())
        else:  # a date or a flag that matters to nobody
            assert read_adapter_manifest(entry.folder).name == "powder"
            shutil.rmtree(entry.folder)
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "bad.zip").write_bytes(whole[:length])
        with pytest.raises(ModelError):
            add(tmp_path / "bad.zip")
    with pytest.raises(ModelError, match="no such file"):
        add(tmp_path / "missing.zip")


def test_what_is_damaged_is_not_exported(tmp_path: Path) -> None:
    path = put_adapter("powder")
    content = bytearray((path / "adapter.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "adapter.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="another hash"):
        export("powder", tmp_path / "p.zip")
    (path / "adapter.json").write_text("{}")
    with pytest.raises(ModelError, match=r"adapter\.json"):
        export("powder", tmp_path / "p.zip")
    assert not (tmp_path / "p.zip").exists()


def test_sizes_have_limits(
    tmp_path: Path, parts: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "MAX_TENSORS_BYTES", len(parts["adapter.safetensors"]) - 1)
    assert "tensors of" in refused(tmp_path, [*parts.items()]).got
    monkeypatch.setattr(packing, "MAX_TENSORS_BYTES", 2**40)
    monkeypatch.setattr(packing, "MAX_MANIFEST_BYTES", len(parts["adapter.json"]) - 1)
    assert "manifest of more" in refused(tmp_path, [*parts.items()]).got


def test_a_full_disk_leaves_nothing(tmp_path: Path, shelf: Path) -> None:
    put_adapter("powder")
    export("powder", tmp_path / "p.zip")
    shutil.rmtree(shelf / "adapters")
    with full_disk(500), pytest.raises(OutputError):
        add(tmp_path / "p.zip")
    assert [e.name for e in list_shelf()] == ["tiny"]
    assert not list((shelf / "adapters").iterdir())
    add(tmp_path / "p.zip")
    with full_disk(500), pytest.raises(OutputError):
        export("powder", tmp_path / "q.zip")
    assert not list(tmp_path.glob("*q.zip*"))
    assert find_entry("powder").state == ""
