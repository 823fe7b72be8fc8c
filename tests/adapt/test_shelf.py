"""The shelf: what lies on it, what may go, and merging."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from dinomask.adapt.promotion import keep_aside, promote, rollback
from dinomask.adapt.shelf import (
    find_base,
    find_entry,
    free_name,
    list_shelf,
    merge,
    place_for,
    remove,
    write_notes,
)
from dinomask.errors import DinomaskError, ModelError, OutputError, SettingsError
from dinomask.nets.adapter_manifest import MANIFEST_FILE, adapters_folder, read_adapter_manifest
from dinomask.nets.adapters import put_on
from dinomask.nets.catalogue import BUNDLED, read_manifest
from dinomask.nets.zoo import load_model
from tests.adapt.shelves import put_adapter, tiny_sha256

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def put_model(shelf: Path, name: str) -> Path:
    return shutil.copytree(BUNDLED / "tiny", shelf / name)


def test_everything_is_listed_with_its_state() -> None:
    for i, name in enumerate(("used", "aside", "plain", "broken")):
        put_adapter(name, float(i))
    promote("used")
    keep_aside("aside", "forgot 3 points")
    (adapters_folder() / "broken" / MANIFEST_FILE).write_text("{")
    found = {e.name: e for e in list_shelf()}
    assert {n: e.state for n, e in found.items()} == {
        "tiny": "bundled",
        "used": "in use",
        "aside": "kept aside",
        "plain": "",
        "broken": "damaged",
    }
    assert found["aside"].reason == "forgot 3 points"
    assert MANIFEST_FILE in found["broken"].reason
    assert found["broken"].manifest is None
    assert found["tiny"].size_mb == pytest.approx(15.9, abs=1)
    bytes_ = sum(p.stat().st_size for p in (adapters_folder() / "plain").iterdir())
    assert found["plain"].size_mb == bytes_ / 1e6


def test_missing_tensors_are_damage() -> None:
    folder = put_adapter("a")
    (folder / "adapter.safetensors").unlink()
    entry = find_entry("a")
    assert (entry.state, entry.reason) == ("damaged", "adapter.safetensors is missing")


def test_one_name_for_two_needs_the_kind(shelf: Path, tmp_path: Path) -> None:
    put_model(shelf, "both")
    put_adapter("both")
    with pytest.raises(ModelError, match="--kind"):
        find_entry("both")
    assert find_entry("both", "adapter").folder == adapters_folder() / "both"
    assert find_entry("both", "model").folder == shelf / "both"
    elsewhere = put_adapter("x", folder=tmp_path / "elsewhere")
    assert find_entry(str(elsewhere)).kind == "adapter"
    for name in ("", "none", str(tmp_path)):
        with pytest.raises(ModelError, match="Known names: tiny, both"):
            find_entry(name)


def test_the_base_is_known_by_its_hash_whatever_its_name(shelf: Path) -> None:
    path = put_adapter("a", base="renamed since")
    assert find_base(read_adapter_manifest(path)) == "tiny"
    path = put_adapter("b", base="lost", base_sha256="f" * 64)
    with pytest.raises(ModelError, match=r"'lost' with the hash ffffffffffff"):
        find_base(read_adapter_manifest(path))


def test_names_are_free_or_refused(shelf: Path) -> None:
    assert free_name("nuclei") == "nuclei"
    put_adapter("Nuclei")
    put_adapter("nuclei-2")
    assert free_name("nuclei") == "nuclei-3"
    # on many systems folders that differ by case are one
    with pytest.raises(OutputError, match="taken"):
        place_for("adapter", "nuclei")
    with pytest.raises(OutputError, match="taken"):
        place_for("model", "tiny")
    with pytest.raises(SettingsError):
        place_for("adapter", "../nuclei")
    assert place_for("adapter", "new") == adapters_folder() / "new"


def test_notes_change_nothing_else() -> None:
    path = put_adapter("a", provenance={"objects": 12})
    before = read_adapter_manifest(path)
    write_notes("a", "good on “powder”\nnot on sand")
    after = read_adapter_manifest(path)
    assert after.notes == "good on “powder”\nnot on sand"
    assert after.provenance == {"objects": 12}
    assert after.tensors_sha256 == before.tensors_sha256


def test_what_is_needed_is_not_removed(shelf: Path, tmp_path: Path) -> None:
    put_adapter("a")
    promote("a")
    elsewhere = put_adapter("x", folder=tmp_path / "elsewhere")
    for name, why in (("tiny", "comes with"), ("a", "in use"), (str(elsewhere), "elsewhere")):
        with pytest.raises(ModelError, match=why):
            remove(name)
    assert (elsewhere / MANIFEST_FILE).exists()
    assert find_entry("a").state == "in use"
    rollback(tiny_sha256())
    assert remove("a").name == "a"
    with pytest.raises(ModelError):
        find_entry("a")
    assert list(adapters_folder().glob("*a*")) == []
    assert list(adapters_folder().glob(".*")) == []


def test_a_model_stays_while_adapters_need_it(shelf: Path) -> None:
    folder = put_model(shelf, "mine")
    raw = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(raw | {"weights_sha256": "e" * 64}))
    put_adapter("a", base="mine", base_sha256="e" * 64)
    with pytest.raises(ModelError, match="needed by a"):
        remove("mine")
    # another copy of it is as good
    shutil.copytree(folder, shelf / "copy")
    remove("mine")
    with pytest.raises(ModelError, match="needed by a"):
        remove("copy")


def test_merging_makes_a_model_that_predicts_alike(shelf: Path) -> None:
    path = put_adapter("a", 0.25, score_threshold=0.4, provenance={"objects": 12})
    manifest = merge("a", "merged")
    assert manifest == read_manifest(shelf / "merged")
    assert manifest.score_threshold == 0.4
    assert manifest.training["adapter"]["name"] == "a"
    assert manifest.training["base"]["sha256"] == tiny_sha256()
    assert manifest.licence == read_manifest(BUNDLED / "tiny").licence
    merged, _ = load_model("merged")
    taught, _ = put_on(*load_model("tiny"), path)
    for name, value in taught.state_dict().items():
        assert torch.allclose(merged.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    assert merged.state_dict()["mask.out.bias"].item() == 0.25
    with pytest.raises(OutputError, match="taken"):
        merge("a", "merged")
    with pytest.raises(DinomaskError):
        merge("a", "a/b")


def test_the_shelf_is_read_without_torch() -> None:
    script = (
        "import sys, dinomask.adapt.shelf, dinomask.adapt.packing, dinomask.adapt.promotion\n"
        "from dinomask.adapt.shelf import list_shelf; assert list_shelf()\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
