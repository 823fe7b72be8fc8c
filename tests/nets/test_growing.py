"""More classes, and a longer stem, than a model was trained for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dinomask.config import DetectConfig, ModelConfig
from dinomask.errors import SettingsError
from dinomask.nets.growing import grow_classes, grow_stem
from dinomask.nets.zoo import load_model
from tests.nets.small import small_model


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


@settings(max_examples=8, deadline=None)
@given(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)))
def test_a_longer_stem_changes_nothing_until_it_learns(blocks: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    tile = torch.rand(1, 3, 56, 42)
    model = small_model().eval()
    n_before = sum(p.numel() for p in model.parameters())
    before = model.features(tile)
    grown = grow_stem(model, blocks).eval()
    assert grown.config.stem_blocks == blocks
    after = grown.features(tile)
    assert all(torch.equal(a, b) for a, b in zip(before.levels, after.levels, strict=True))
    assert torch.equal(before.fine, after.fine)
    n_new = sum(blocks) - 3
    assert (sum(p.numel() for p in grown.parameters()) > n_before) == (n_new > 0)
    # the new blocks can learn: their last layers get a gradient
    sum(level.square().sum() for level in grown.features(tile).levels).backward()
    for name, parameter in grown.pyramid.stem.named_parameters():
        if name.endswith("out.weight") and not name.startswith("to_fine"):
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0


def test_a_stem_is_never_shortened() -> None:
    model = grow_stem(small_model(), (1, 2, 2))
    with pytest.raises(SettingsError, match="at least 1 2 2 stem blocks"):
        grow_stem(model, (1, 1, 2))


@pytest.mark.parametrize("blocks", [(1, 1), (0, 1, 1)])
def test_a_stem_has_a_block_at_each_stride(blocks: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match="stem blocks"):
        ModelConfig(stem_blocks=blocks)  # type: ignore[arg-type]
