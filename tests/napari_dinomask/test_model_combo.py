"""The choice of models and adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from dinomask.adapt.promotion import promote, rollback
from dinomask.config import FitConfig
from dinomask.nets.adapters import AdapterManifest, adapters_folder, save_adapter
from dinomask.nets.catalogue import find_model, read_manifest
from napari_dinomask.widgets.model_combo import ModelCombo

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the base's hash; adapters live in a folder of the test's own."""
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path / "models"))
    return read_manifest(find_model("tiny")).weights_sha256


def _save(name: str, base_sha256: str, threshold: float = 0.42) -> None:
    manifest = AdapterManifest(
        name, "tiny", base_sha256, FitConfig("frozen"), score_threshold=threshold
    )
    save_adapter(adapters_folder() / name, {"weight.detector.scales": torch.ones(3)}, manifest)


def test_adapters_follow_their_model_and_the_promoted_one_is_chosen(
    qtbot: QtBot, shelf: str
) -> None:
    combo = ModelCombo()
    qtbot.addWidget(combo)
    combo.refresh()
    own = combo.score_threshold
    assert (combo.currentText(), combo.model, combo.adapter) == ("tiny", "tiny", None)
    _save("powder", shelf)
    combo.refresh()
    texts = [combo.itemText(i) for i in range(combo.count())]
    assert "tiny + powder" in texts
    assert combo.currentText() == "tiny"
    promote("powder", "better")
    with qtbot.waitSignal(combo.chosen):
        combo.refresh()
    assert (combo.model, combo.adapter, combo.score_threshold) == ("tiny", "powder", 0.42)
    combo.setCurrentText("tiny")
    combo.refresh()
    assert combo.adapter is None  # the user's own choice stays
    rollback(shelf)
    combo.refresh()
    assert (combo.adapter, combo.score_threshold) == (None, own)


def test_an_adapter_of_an_unknown_model_is_not_offered(qtbot: QtBot, shelf: str) -> None:
    _save("stranger", "0" * 64)
    combo = ModelCombo()
    qtbot.addWidget(combo)
    combo.refresh()
    assert all("stranger" not in combo.itemText(i) for i in range(combo.count()))
