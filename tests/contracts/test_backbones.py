"""What every backbone must do, whatever its family."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dinomask.config import LoraSettings
from dinomask.errors import ModelError
from dinomask.nets.backbone_files import load_backbone_weights
from dinomask.nets.families import FAMILIES
from dinomask.nets.lora import attach, lora_layers
from dinomask.nets.losses import Sampling
from dinomask.nets.packing import unpack
from dinomask.nets.zoo import WEIGHTS_FILE, Manifest, file_sha256, load_weights, save_checkpoint
from dinomask.train.balance import Balancer
from dinomask.train.state import TrainingState
from tests.contracts.members import MEMBERS, Member
from tests.nets.small import discs

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.nets.features import Backbone

every_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.id)


@torch.no_grad()
def maps_of(backbone: nn.Module, images: Tensor) -> list[Tensor]:
    maps: list[Tensor] = backbone.eval()(images)
    return maps


def test_every_family_has_a_member() -> None:
    assert {m.family.title for m in MEMBERS} == {f.title for f in FAMILIES}


@every_member
@pytest.mark.parametrize("size_px", [(14, 28), (98, 70), (224, 238)], ids=str)
def test_maps_lie_on_the_grid_for_any_multiple_of_14(
    member: Member, size_px: tuple[int, int]
) -> None:
    backbone = member.backbone()
    torch.manual_seed(1)
    maps = maps_of(backbone, torch.randn(2, 3, *size_px))
    expected = [
        (2, width, round(size_px[0] / stride), round(size_px[1] / stride))
        for width, stride in zip(backbone.widths, backbone.strides_px, strict=True)
    ]
    assert [tuple(m.shape) for m in maps] == expected
    assert 14.0 in backbone.strides_px
    assert all(torch.isfinite(m).all() for m in maps)
    # images differ, so their features do
    assert all((m[0] - m[1]).abs().max() > 1e-3 for m in maps)


@every_member
@torch.no_grad()
def test_any_layer_can_be_looked_at_on_its_own_grid(member: Member) -> None:
    backbone = member.backbone().eval()
    images = torch.randn(1, 3, 98, 70, generator=torch.Generator().manual_seed(1))
    every = range(backbone.n_layers)
    maps = backbone.layer_maps(images, every)
    for layer, found in zip(every, maps, strict=True):
        stride = backbone.layer_stride_px(layer)
        assert found.shape[-2:] == (round(98 / stride), round(70 / stride))
        assert torch.isfinite(found).all()
    # what the pyramid gets is among them
    (last,) = backbone.layer_maps(images, [backbone.n_layers - 1])
    torch.testing.assert_close(last, maps[-1])
    assert any(
        torch.allclose(last, m, atol=1e-5) for m in backbone(images) if m.shape == last.shape
    )


@torch.no_grad()
def make_local_and_even(backbone: nn.Module) -> None:
    """Leave only the geometry: no attention, no gates, kernels peaked in their middle."""
    for name, module in backbone.named_modules():
        if name.endswith(("attn.proj", "attn.output.proj")):
            for parameter in module.parameters():
                parameter.zero_()
        if name.endswith(("se.conv_expand", "grn")):
            module.weight.zero_()
    for name, parameter in backbone.named_parameters():
        if parameter.ndim == 4 and parameter.shape[-1] > 1:
            parameter.copy_((parameter + parameter.flip(-1, -2)) / 2)
            if parameter.shape[-1] % 2:
                # else deep maps answer to the spot everywhere in the tile
                reach = parameter.shape[-1] // 2
                fall = 0.3 ** torch.arange(-reach, reach + 1.0).abs()
                parameter.mul_(fall * fall[:, None])
        if "pos_embed" in name:
            parameter.zero_()


def response(member: Member, point_px: int, side_px: int, n_networks: int) -> list[Tensor]:
    """How strongly each cell of each map answers to a spot; summed over random networks."""
    energy: list[Tensor] = []
    for seed in range(n_networks):
        # in double precision, since so narrow kernels let the spot fade below rounding
        backbone = member.backbone(seed).double()
        make_local_and_even(backbone)
        images = torch.zeros(2, 3, side_px, side_px, dtype=torch.float64)
        near = slice(point_px - 1, point_px + 1)
        images[0, :, near, near] = 3.0
        maps = [(m[0] - m[1]).square().sum(0) for m in maps_of(backbone, images)]
        energy = [a + b for a, b in zip(energy, maps, strict=True)] if energy else maps
    return energy


@every_member
def test_features_lie_where_the_pixels_are(member: Member) -> None:
    strides_px = member.backbone().strides_px
    # in the middle, far from all borders, the response is centred; half a cell off would be
    # 1.3, 3 and 6 px
    for stride, cells in zip(strides_px, response(member, 112, 224, 3), strict=True):
        centres = (torch.arange(len(cells)) + 0.5) * stride
        for axis in (0, 1):
            centroid = (cells.sum(1 - axis) * centres).sum() / cells.sum()
            assert abs(centroid - 112) < 1 + 0.05 * stride
    # away from it, the cell that answers most is the one that holds the spot, or touches it
    for stride, cells in zip(strides_px, response(member, 161, 238, 1), strict=True):
        y, x = divmod(int(cells.argmax()), cells.shape[1])
        # maps of stride 28 are shown on the grid of 14
        reach_px = 28 if stride == 14 else stride
        assert abs((y + 0.5) * stride - 161) <= reach_px
        assert abs((x + 0.5) * stride - 161) <= reach_px


@every_member
def test_a_gradient_reaches_every_parameter(member: Member) -> None:
    model = member.model().train()
    tile, target = discs([(30, 30), (80, 64)], 14, 112)
    losses = model.losses(tile.expand(2, -1, -1, -1), [target, target], Sampling(4, 0))
    assert all(torch.isfinite(v) for v in losses.values())
    sum(losses.values()).backward()
    parameters = [(n, p) for n, p in model.backbone.named_parameters() if p.requires_grad]
    assert parameters
    assert not [n for n, p in parameters if p.grad is None]
    # the heads are random, so noise is a better probe of the maps than their losses
    model.zero_grad()
    maps = model.backbone(torch.randn(2, 3, 112, 112))
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    assert not [n for n, p in parameters if p.grad is None or not p.grad.any()]


@every_member
def test_lora_attaches_or_says_why_not(member: Member) -> None:
    model = member.model().eval()
    tiles = torch.rand(1, 3, 70, 56)
    before = maps_of(model.backbone, tiles)
    if not model.backbone.block_paths:
        for settings in (LoraSettings(), LoraSettings(blocks=(1,), block_ranks=((1, 2),))):
            with pytest.raises(ModelError, match="Teach the heads or all weights"):
                attach(model, settings)
        assert all(p.requires_grad for p in model.parameters())
        return
    adapter = attach(model)
    adapted = {name.rpartition(".")[0] for name, _ in lora_layers(model)}
    assert adapted
    for a, b in zip(maps_of(model.backbone, tiles), before, strict=True):
        assert torch.equal(a, b)
    # each adapted layer changes the result: none is passed by
    for name, layer in lora_layers(model):
        matrix = layer.lora_B["default"].weight
        with torch.no_grad():
            matrix.normal_(std=0.5)
            changed = maps_of(model.backbone, tiles)
            matrix.zero_()
        assert any(not torch.equal(a, b) for a, b in zip(changed, before, strict=True)), name
    with torch.no_grad():
        for parameter in adapter.lora_parameters():
            parameter.normal_(std=0.05)
    learned = maps_of(model.backbone, tiles)
    for a, b in zip(maps_of(adapter.merge().backbone, tiles), learned, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)


@every_member
def test_a_checkpoint_gives_the_same_model_to_the_bit(member: Member, tmp_path: Path) -> None:
    model = member.model(seed=0)
    manifest = Manifest("mine", model.config)
    save_checkpoint(tmp_path / "first", model.state_dict(), manifest)
    loaded, again = member.model(seed=1), member.model(seed=2)
    load_weights(loaded, tmp_path / "first" / WEIGHTS_FILE)
    save_checkpoint(tmp_path / "second", loaded.state_dict(), manifest)
    load_weights(again, tmp_path / "second" / WEIGHTS_FILE)
    assert file_sha256(tmp_path / "first" / WEIGHTS_FILE) == file_sha256(
        tmp_path / "second" / WEIGHTS_FILE
    )
    # tensors that are mostly zeros are stored without them
    stored = unpack(load_file(tmp_path / "first" / WEIGHTS_FILE))
    assert stored.keys() == model.state_dict().keys()
    tile = torch.rand(1, 3, 70, 56)
    for a, b in zip(maps_of(loaded.backbone, tile), maps_of(again.backbone, tile), strict=True):
        assert torch.equal(a, b)
    pairs = zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    assert all(torch.allclose(a, b, rtol=2**-11, atol=2**-24) for a, b in pairs)


@every_member
def test_published_files_load(member: Member, tmp_path: Path) -> None:
    # with a classifier, as they are published
    source, target = member.network(seed=0, num_classes=7), member.network(seed=1)
    torch.save(source.state_dict(), tmp_path / "published.pth")
    load_backbone_weights(target, tmp_path / "published.pth")
    loaded, expected = target.state_dict(), source.state_dict()
    assert loaded.keys() <= expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.items())


@every_member
def test_weights_are_averaged_like_any_others(member: Member) -> None:
    model = member.model()
    average = {k: v.clone() for k, v in model.state_dict().items()}
    optimiser = torch.optim.AdamW(model.parameters())
    state = TrainingState(model, average, optimiser, Balancer(["class"]), step=10)
    model.train()
    model.features(torch.rand(2, 3, 56, 56))
    state.update_average(0.5)
    assert all(torch.isfinite(v).all() for v in average.values())


@every_member
def test_memory_grows_with_the_area(member: Member, record_property: pytest.RecordProperty) -> None:
    backbone = member.backbone().train()
    weights_mb = sum(p.numel() * p.element_size() for p in backbone.parameters()) / 1e6
    small_mb, large_mb = (kept_for_backward_mb(backbone, side) for side in (112, 224))
    record_property("backbone", member.id)
    record_property("weights_mb", round(weights_mb, 2))
    record_property("activations_224_mb", round(large_mb, 1))
    # four times the area; full attention matrices would cost sixteen times
    assert 2 < large_mb / small_mb < 6


def kept_for_backward_mb(backbone: Backbone, side_px: int) -> float:
    """What a training step keeps of a forward pass, beside the weights."""
    own = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        if value.untyped_storage().data_ptr() not in own:
            kept[value.untyped_storage().data_ptr()] = value
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        backbone(torch.rand(1, 3, side_px, side_px))
    return sum(v.untyped_storage().nbytes() for v in kept.values()) / 1e6


@every_member
def test_a_frozen_backbone_stays_what_it_is_in_training(member: Member) -> None:
    backbone = member.backbone().requires_grad_(False)
    before = copy.deepcopy(backbone.state_dict())
    backbone.train()(torch.randn(2, 3, 56, 56))
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())
