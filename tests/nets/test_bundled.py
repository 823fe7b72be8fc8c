"""The bundled model: other families of backbones change nothing in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors import safe_open

from dinomask.nets.features import ViTBackbone
from dinomask.nets.zoo import BUNDLED, WEIGHTS_FILE, load_model

if TYPE_CHECKING:
    from dinomask.nets.centermask import CenterMask


@pytest.fixture(scope="module")
def model() -> CenterMask:
    return load_model("tiny")[0]


def test_its_tensors_are_those_of_the_file(model: CenterMask) -> None:
    with safe_open(BUNDLED / "tiny" / WEIGHTS_FILE, "pt") as file:
        stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    assert stored == {name: tuple(v.shape) for name, v in model.state_dict().items()}


@torch.no_grad()
def test_its_pyramid_is_stem_and_tokens_to_the_bit(model: CenterMask) -> None:
    torch.manual_seed(0)
    tile = torch.rand(1, 3, 84, 70)
    assert isinstance(model.backbone, ViTBackbone)
    normalised = (tile - model.mean) / model.std
    tokens = model.backbone.vit.forward_intermediates(
        normalised, indices=[2, 5, 8, 11], norm=True, intermediates_only=True
    )
    net = model.pyramid
    detail, fine, at_7, at_14 = net.stem(normalised)
    at_14 = net.out_14(at_14 + net.lateral(torch.cat(tokens, dim=1)))
    at_7 = net.out_7(at_7 + net.up_to_7(at_14))
    fine = net.out_fine(fine + net.up_to_fine(at_7))
    made = model.features(tile)
    pairs = zip(
        (made.detail, made.fine, *made.levels),
        (detail, fine, at_7, at_14, net.out_28(at_14)),
        strict=True,
    )
    assert all(torch.equal(a, b) for a, b in pairs)
