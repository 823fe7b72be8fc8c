"""Adapters can be switched, and leave nothing behind."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import torch

from dinomask.config import FitConfig, LoraSettings
from dinomask.errors import ModelError
from dinomask.nets.adapters import AdapterManifest, learned_tensors, put_on, save_adapter
from dinomask.nets.catalogue import Manifest
from dinomask.nets.wardrobe import Wardrobe
from dinomask.train.fit import prepare_fit
from tests.nets.small import small_config, small_model
from tests.nets.taught import output, teach

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

BASE = Manifest("base", small_config(), weights_sha256="a" * 64)
TILES = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
FITS = {
    "lora": FitConfig("lora", lora=LoraSettings(rank=2)),
    "late": FitConfig("late", late_blocks=1),
    "heads": FitConfig("frozen"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters of several kinds, one of which tells two classes apart."""
    home = tmp_path_factory.mktemp("adapters")
    for name, fit in FITS.items():
        fitting = prepare_fit(small_model(), fit)
        teach(fitting.model)
        save(home / name, fitting.model.state_dict(), fitting.config)
    two = small_model(2)
    two.backbone.load_state_dict(small_model().backbone.state_dict())
    save(home / "two", two.state_dict(), FITS["heads"], ("cell", "debris"))
    return {folder.name: folder for folder in home.iterdir()}


def save(
    folder: Path, state: dict[str, Tensor], fit: FitConfig, classes: tuple[str, ...] = ()
) -> None:
    tensors = learned_tensors(state, small_model().state_dict())
    manifest = AdapterManifest(folder.name, "base", "a" * 64, fit, class_names=classes)
    save_adapter(folder, tensors, manifest)


def test_each_is_as_if_freshly_loaded_whatever_was_worn_before(folders: dict[str, Path]) -> None:
    wardrobe = Wardrobe(small_model(), BASE)
    expected = {n: output(put_on(small_model(), BASE, f)[0], TILES) for n, f in folders.items()}
    bare = output(small_model(), TILES)
    order = ["lora", "two", "late", "heads", "two", "lora", "late", None, "heads", None]
    for name in order:
        model = wardrobe.wear(folders[name] if name else None)
        assert model is wardrobe.model
        assert (wardrobe.worn and wardrobe.worn.name) == name
        assert torch.equal(output(model, TILES), expected[name] if name else bare)
        assert model.config.n_classes == (2 if name == "two" else 1)
        assert model.config.class_names == (("cell", "debris") if name == "two" else ())


def test_what_does_not_fit_leaves_the_bare_checkpoint(folders: dict[str, Path]) -> None:
    wardrobe = Wardrobe(small_model(), BASE)
    wardrobe.wear(folders["late"])
    other = Wardrobe(small_model(), dataclasses.replace(BASE, weights_sha256="b" * 64))
    for wrong, folder in ((other, folders["lora"]), (wardrobe, folders["late"].parent)):
        with pytest.raises(ModelError):
            wrong.wear(folder)
        assert wrong.worn is None
        assert torch.equal(output(wrong.model, TILES), output(small_model(), TILES))
