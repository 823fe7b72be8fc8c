"""More classes than a model was trained for."""

from __future__ import annotations

import pytest
import torch

from dinomask.config import DetectConfig
from dinomask.errors import SettingsError
from dinomask.nets.growing import grow_classes
from dinomask.nets.zoo import load_model


@pytest.fixture(scope="module")
def tile() -> torch.Tensor:
    rows, cols = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    image = torch.zeros(112, 112)
    for y, x in ((30, 34), (74, 80)):
        image += ((rows - y).square() + (cols - x).square() < 15**2).float()
    return image.expand(1, 3, -1, -1).contiguous()


def test_a_grown_model_finds_the_same_of_the_old_class(tile: torch.Tensor) -> None:
    config = DetectConfig()
    before = load_model("tiny")[0].detect(tile, config, 0.3)[0]
    grown = grow_classes(load_model("tiny")[0], ("cell", "dividing")).eval()
    assert grown.config.class_names == ("cell", "dividing")
    after = grown.detect(tile, config, 0.3)[0]
    old = after.classes == 0
    assert len(before.scores) >= 2
    assert torch.allclose(after.scores[old], before.scores, atol=1e-5)
    assert torch.allclose(after.boxes_yxyx_px[old], before.boxes_yxyx_px, atol=1e-3)
    # a new class is never surer than the one it was copied from
    assert not len(after.scores[~old]) or after.scores[~old].max() < before.scores.max()


def test_a_model_with_these_classes_is_left_alone() -> None:
    model = load_model("tiny")[0]
    assert grow_classes(model, ()) is model
    named = grow_classes(model, ("nucleus",))
    assert named is model
    assert named.config.class_names == ("nucleus",)


def test_old_classes_keep_their_place() -> None:
    model = grow_classes(load_model("tiny")[0], ("cell", "dividing"))
    for wrong in (("dividing", "cell"), ("cell",)):
        with pytest.raises(SettingsError, match="begin with"):
            grow_classes(model, wrong)
    assert grow_classes(model, ("cell", "dividing", "dead")).config.n_classes == 3
