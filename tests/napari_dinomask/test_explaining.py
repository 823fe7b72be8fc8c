"""The state behind the Explain panel's first tab, without a window."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from dinomask.config import SegmentConfig
from dinomask.errors import NoAttentionError
from dinomask.image import open_image
from napari_dinomask import network
from napari_dinomask.explain_wording import say_reason, say_shown
from napari_dinomask.explaining import Clicked, ExplainIntent, Looker

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]


@pytest.fixture
def convolutional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model of random weights; what counts is what can be looked at."""
    network._keep_triton_from_mesa()
    from dinomask.config import ModelConfig
    from dinomask.nets.catalogue import Manifest
    from dinomask.nets.centermask import CenterMask
    from dinomask.nets.zoo import save_checkpoint

    config = ModelConfig(backbone="mobilenetv3_small_050", pyramid_width=16, detail_width=16)
    save_checkpoint(tmp_path / "conv", CenterMask(config).state_dict(), Manifest("conv", config))
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path))
    return "conv"


def test_a_convolutional_backbone_has_maps_but_no_attention(
    convolutional: str, nuclei_yx: Array
) -> None:
    config = SegmentConfig(model=convolutional, threads=1, device="cpu")
    looker = Looker(lambda: open_image(nuclei_yx), config, 26.0)
    clicked = Clicked((100.0, 120.0))
    with pytest.raises(NoAttentionError, match="no attention"):
        looker.look(clicked, ExplainIntent())
    shown = looker.look(clicked, ExplainIntent(what="class"))
    assert shown.values_yx.max() <= 1
    assert say_reason(shown)
    assert "sure the detector is" in say_shown(shown)
    assert looker.n_computed == 1


def test_it_works_without_qt_and_napari() -> None:
    code = (
        "import sys, napari_dinomask.explaining, napari_dinomask.explain_wording\n"
        "seen = {'napari', 'qtpy', 'PyQt6', 'vispy', 'superqt', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported {seen}' if seen else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
