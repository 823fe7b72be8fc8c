"""Adapters on disk: exact, small, for every way to fit, and only ever on their own base."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from dinomask.config import FitConfig, LoraSettings, as_dict
from dinomask.errors import ModelError, OutputError, SettingsError
from dinomask.nets.adapters import (
    MANIFEST_FILE,
    TENSORS_FILE,
    AdapterManifest,
    find_adapter,
    learned_tensors,
    list_adapters,
    merge_tensors,
    put_on,
    read_adapter_manifest,
    require_name,
    rounded,
    save_adapter,
)
from dinomask.nets.catalogue import Manifest
from dinomask.nets.lora import lora_layers
from dinomask.train.fit import Fitting, prepare_fit
from tests.limits import full_disk
from tests.nets.small import small_config, small_model
from tests.nets.taught import output, teach

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from dinomask.nets.centermask import CenterMask

BASE = Manifest("base", small_config(), weights_sha256="a" * 64)
LORA = LoraSettings(rank=4, block_ranks=((2, 6),), dropout=0.1)
FITS = {
    "lora": FitConfig("lora", lora=LORA),
    "parts": FitConfig("lora", lora=LoraSettings(rank=3, targets=("q", "v", "fc1"))),
    "no heads": FitConfig("lora", lora=LoraSettings(heads=False)),
    "hybrid": FitConfig("hybrid", late_blocks=1),
    "late": FitConfig("late", late_blocks=2),
    "heads": FitConfig("frozen"),
    "full": FitConfig("full"),
}


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    return torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))


@functools.cache
def fitted(config: FitConfig) -> Fitting:
    fitting = prepare_fit(small_model(), config)
    teach(fitting.model)
    return fitting


def tensors_of(fitting: Fitting) -> dict[str, Tensor]:
    return learned_tensors(fitting.model.state_dict(), small_model().state_dict())


def manifest_of(fitting: Fitting, name: str = "mine") -> AdapterManifest:
    return AdapterManifest(name, BASE.name, BASE.weights_sha256, fitting.config)


def save_as(folder: Path, fitting: Fitting) -> Path:
    save_adapter(folder, tensors_of(fitting), manifest_of(fitting))
    return folder


def same(one: CenterMask, other: CenterMask) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("name", FITS)
def test_what_was_measured_is_what_loads(name: str, tmp_path: Path, tiles: Tensor) -> None:
    fitting = fitted(FITS[name])
    tensors = rounded(tensors_of(fitting))
    measured = merge_tensors(small_model(), fitting.config, tensors)
    manifest = save_adapter(tmp_path / "a", tensors_of(fitting), manifest_of(fitting))
    loaded, read = put_on(small_model(), BASE, tmp_path / "a")
    assert read == manifest == read_adapter_manifest(tmp_path / "a")
    assert same(loaded, measured)
    assert torch.equal(output(loaded, tiles), output(measured, tiles))
    assert not torch.equal(output(loaded, tiles), output(small_model(), tiles))
    assert not list(lora_layers(loaded))


@pytest.mark.parametrize("name", FITS)
def test_merging_is_that_of_the_training(name: str) -> None:
    fitting = fitted(FITS[name])
    merged = merge_tensors(small_model(), fitting.config, tensors_of(fitting)).state_dict()
    trained = fitting.merged_state()
    assert merged.keys() == trained.keys()
    assert all(torch.equal(merged[n], trained[n]) for n in merged)


def test_an_average_of_the_training_can_be_saved() -> None:
    fitting = fitted(FITS["hybrid"])
    average = {n: v * 0.9 for n, v in fitting.model.state_dict().items()}
    tensors = learned_tensors(average, small_model().state_dict())
    merged = merge_tensors(small_model(), fitting.config, tensors).state_dict()
    expected = fitting.merged_state(average)
    assert all(torch.equal(merged[n], expected[n]) for n in merged)


def test_only_what_changed_is_stored(tmp_path: Path) -> None:
    heads = tensors_of(fitted(FITS["heads"]))
    assert heads
    assert not any("backbone" in name for name in heads)
    bare = tensors_of(fitted(FITS["no heads"]))
    assert bare
    assert all(name.startswith("lora.backbone.") for name in bare)
    folder = save_as(tmp_path / "a", fitted(FITS["lora"]))
    assert {p.name for p in folder.iterdir()} == {TENSORS_FILE, MANIFEST_FILE}
    weights = sum(v.numel() for v in tensors_of(fitted(FITS["lora"])).values())
    assert (folder / TENSORS_FILE).stat().st_size < 4 * weights + 20_000


def test_heads_and_lora_keep_every_bit_and_backbone_weights_half(tmp_path: Path) -> None:
    fitting = fitted(FITS["hybrid"])
    learned = tensors_of(fitting)
    stored = load_file(save_as(tmp_path / "a", fitting) / TENSORS_FILE)
    assert stored.keys() == learned.keys()
    for name, value in stored.items():
        if name.startswith("weight.backbone."):
            assert value.dtype == torch.float16
            assert torch.allclose(value.float(), learned[name], rtol=1e-3, atol=1e-6)
        else:
            assert torch.equal(value, learned[name])
    assert any(v.dtype == torch.float16 for v in stored.values())


def test_values_beyond_half_precision_are_kept() -> None:
    kept = rounded({"weight.backbone.x": torch.tensor([1e6])})["weight.backbone.x"]
    assert kept.dtype == torch.float32


def grown(n_classes: int) -> CenterMask:
    """The same model with heads for more classes, of which the old ones are unchanged."""
    torch.manual_seed(3)
    base, model = small_model(), small_model(n_classes)
    state = model.state_dict()
    for name, value in base.state_dict().items():
        state[name] = (
            torch.cat([value, state[name][1:]]) if value.shape != state[name].shape else value
        )
    model.load_state_dict(state)
    return model


def test_classes_can_be_added(tmp_path: Path, tiles: Tensor) -> None:
    names = ("cell", "debris", "bubble")
    fitting = prepare_fit(grown(3), FITS["heads"])
    teach(fitting.model)
    manifest = dataclasses.replace(manifest_of(fitting), class_names=names)
    save_adapter(tmp_path / "a", tensors_of(fitting), manifest)
    loaded, read = put_on(small_model(), BASE, tmp_path / "a")
    assert read.class_names == loaded.config.class_names == names
    assert loaded.config.n_classes == 3
    assert torch.equal(output(loaded, tiles), output(fitting.model, tiles))


def test_new_heads_must_be_complete() -> None:
    fitting = prepare_fit(grown(2), FITS["heads"])
    tensors = tensors_of(fitting)
    for name in tensors:
        rest = {n: v for n, v in tensors.items() if n != name}
        with pytest.raises(SettingsError, match="missing"):
            merge_tensors(small_model(), fitting.config, rest, ("a", "b"))


def test_classes_of_the_base_stay_in_their_places() -> None:
    model = small_model(2)
    model.config = dataclasses.replace(model.config, class_names=("a", "b"))
    for names in (("a",), ("b", "a"), ("b", "a", "c")):
        with pytest.raises(SettingsError, match="a, b"):
            merge_tensors(model, FITS["heads"], {}, names)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_as(tmp_path_factory.mktemp("adapters") / "mine", fitted(FITS["lora"]))


def test_the_wrong_base_is_refused(saved: Path) -> None:
    model = small_model()
    other = dataclasses.replace(BASE, name="other", weights_sha256="b" * 64)
    with pytest.raises(ModelError) as caught:
        put_on(model, other, saved)
    assert "'base' with the hash aaaaaaaaaaaa" in caught.value.expected
    assert "'other' with the hash bbbbbbbbbbbb" in caught.value.got
    assert "taught on" in caught.value.remedy
    assert same(model, small_model())


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
        put_on(small_model(), BASE, folder)
    (folder / TENSORS_FILE).unlink()
    with pytest.raises(ModelError, match=TENSORS_FILE):
        put_on(small_model(), BASE, folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3, "news": 1}, "Update DINOmask"),
        ({"format": "x"}, r"adapter\.json"),
        ({"fit": {}}, r"adapter\.json"),
        ({"fit": {"mode": "lora", "lora": {"rank": 0}}}, r"adapter\.json"),
        ({"fit": None}, r"adapter\.json"),
        ({"name": 3}, r"adapter\.json"),
        ({"class_names": ["a", "a"]}, r"adapter\.json"),
        ({"score_threshold": "high"}, r"adapter\.json"),
        ({"diameter_px": -1}, r"adapter\.json"),
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
        put_on(small_model(), BASE, folder)
    (folder / MANIFEST_FILE).write_text("[1]")
    with pytest.raises(ModelError, match=r"adapter\.json"):
        read_adapter_manifest(folder)


@pytest.mark.parametrize(
    "changes", [{"rank": 5}, {"blocks": [1, 2]}, {"blocks": None}, {"targets": ["q", "v"]}]
)
def test_tensors_of_other_settings_leave_the_model_alone(
    saved: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    folder = copy_of(saved, tmp_path / "mixed")
    raw = json.loads((folder / MANIFEST_FILE).read_text())
    raw["fit"]["lora"] |= changes | {"block_ranks": []}
    (folder / MANIFEST_FILE).write_text(json.dumps(raw))
    model = small_model()
    with pytest.raises(ModelError, match="written together"):
        put_on(model, BASE, folder)
    assert same(model, small_model())


@pytest.mark.parametrize("fit", ["lora", "heads"])
@pytest.mark.parametrize("name", ["weight.mask.out.new", "lora.backbone.x.lora_A", "odd"])
def test_unknown_tensors_leave_the_model_alone(name: str, fit: str) -> None:
    fitting = fitted(FITS[fit])
    model = small_model()
    with pytest.raises(SettingsError, match=name):
        merge_tensors(model, fitting.config, tensors_of(fitting) | {name: torch.zeros(2)})
    assert same(model, small_model())


def test_an_adapter_is_not_overwritten_unasked(saved: Path) -> None:
    fitting = fitted(FITS["heads"])
    with pytest.raises(OutputError, match="overwrite"):
        save_as(saved, fitting)
    before = (saved / TENSORS_FILE).read_bytes()
    with full_disk(), pytest.raises(OutputError, match="intact"):
        save_adapter(saved, tensors_of(fitting), manifest_of(fitting), overwrite=True)
    assert (saved / TENSORS_FILE).read_bytes() == before
    put_on(small_model(), BASE, saved)


def test_the_first_format_still_loads(tmp_path: Path) -> None:
    fitting = fitted(FITS["lora"])
    tensors = {
        "head." + n.removeprefix("weight.") if n.startswith("weight.") else n: v
        for n, v in tensors_of(fitting).items()
    }
    save_file(tensors, tmp_path / TENSORS_FILE)
    old = {
        "name": "old",
        "base": "base",
        "base_sha256": "a" * 64,
        "settings": as_dict(fitting.config)["lora"],
        "tensors_sha256": hashlib.sha256((tmp_path / TENSORS_FILE).read_bytes()).hexdigest(),
        "provenance": {"objects": 12},
        "dinomask_version": "0.4.0",
        "format": 1,
    }
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(old))
    loaded, manifest = put_on(small_model(), BASE, tmp_path)
    assert manifest.provenance == {"objects": 12}
    assert same(loaded, merge_tensors(small_model(), fitting.config, tensors_of(fitting)))


def test_adapters_are_found_by_name_and_by_folder(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path))
    assert list_adapters() == {}
    (tmp_path / "adapters").mkdir()
    here = copy_of(saved, tmp_path / "adapters" / "powder")
    (tmp_path / "adapters" / "no adapter").mkdir()
    assert list_adapters() == {"powder": here}
    assert find_adapter("powder") == here
    assert find_adapter(str(saved)) == saved
    for name in ("", "sand", str(tmp_path)):
        with pytest.raises(ModelError, match="powder"):
            find_adapter(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "/a",
        ".hidden",
        "con",
        "NUL.txt",
        "a ",
        "a.",
        "a\n",
        "adapters",
        "x" * 101,
    ],
)
def test_names_that_no_folder_can_have(name: str) -> None:
    with pytest.raises(SettingsError, match="name"):
        require_name(name)


@pytest.mark.parametrize("name", ["powder", "Zellen 2", "käse-v1.2", "细胞", "a"])
def test_names_that_are_fine(name: str) -> None:
    assert require_name(name) == name
