"""The ways to fit: what learns, how fast, and that a plain model comes out again."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch

from dinomask.config import FitConfig, LoraSettings
from dinomask.errors import ModelError, SettingsError
from dinomask.nets.depth import block_paths, weight_depths
from dinomask.nets.losses import Sampling
from dinomask.train.fit import Fitting, prepare_fit, scale_rates
from tests.contracts.members import MEMBERS, Member
from tests.nets.small import discs, small_model
from tests.nets.taught import output

if TYPE_CHECKING:
    from torch import Tensor

    from dinomask.nets.centermask import CenterMask

RATE, DECAY = 1e-2, 0.1
PLAIN = [m for m in MEMBERS if m.family.title.startswith(("ResNet", "MobileNet", "EfficientNet"))]
# one member a family, and a ConvNeXt for stages
FEW = [m for m in MEMBERS if m.name.startswith(("vit_small_patch14_reg4", "swin_", "resnet18"))]


@pytest.fixture(scope="module")
def tiles() -> Tensor:
    return torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))


def learn(fitting: Fitting, steps: int = 2) -> dict[str, Tensor]:
    """Train as the loop does; return the average of the states."""
    model = fitting.model.train()
    optimiser = torch.optim.AdamW(fitting.parameter_groups(RATE, DECAY))
    average = {k: v.clone() for k, v in model.state_dict().items()}
    scene, target = discs([(18, 20), (38, 36)], 8, 56)
    torch.manual_seed(1)
    for step in range(steps):
        scale_rates(optimiser, 1 / (1 + step))
        optimiser.zero_grad()
        losses = model.losses(scene.expand(2, -1, -1, -1), [target, target], Sampling(4, 0))
        (sum(losses.values()) + fitting.penalty()).backward()
        optimiser.step()
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 0.5)
    return average


def changed(model: CenterMask, state: dict[str, Tensor]) -> set[str]:
    """Backbone weights (no statistics) that differ from a state."""
    return {
        name.removeprefix("backbone.")
        for name, value in model.named_parameters()
        if name.startswith("backbone.") and not torch.equal(value, state[name])
    }


def late_names(model: CenterMask, n: int) -> set[str]:
    depths = weight_depths(model.backbone)
    return {name for name, d in depths.items() if d > max(depths.values()) - n}


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.id)
def test_every_weight_of_every_family_has_its_depth(member: Member) -> None:
    backbone = member.backbone()
    paths, depths = block_paths(backbone), weight_depths(backbone)
    assert len(paths) >= 4
    assert set(depths) == {name for name, _ in backbone.named_parameters()}
    assert set(depths.values()) == set(range(len(paths) + 1))
    for i, path in enumerate(paths, 1):
        assert {depths[n] for n in depths if n.startswith(f"{path}.")} == {i}
    # the stem takes the image in, so its depth is 0
    stems = [n for n in depths if "patch_embed" in n or "stem" in n or n == "network.conv1.weight"]
    assert stems
    assert {depths[n] for n in stems} == {0}
    if backbone.block_paths:
        assert list(backbone.block_paths) == paths


def test_between_two_blocks_is_the_second_and_behind_the_last_the_last() -> None:
    swin = next(m for m in MEMBERS if m.name.startswith("swin_")).backbone()
    depths = weight_depths(swin)
    assert depths["network.layers.1.downsample.reduction.weight"] == 3
    assert depths["network.layers.1.blocks.0.attn.qkv.weight"] == 3
    vit = MEMBERS[0].backbone()
    assert weight_depths(vit)["vit.norm.weight"] == 4
    assert weight_depths(vit)["vit.pos_embed"] == 0


@pytest.mark.parametrize("member", FEW, ids=lambda m: m.id)
@pytest.mark.parametrize("mode", ["full", "late", "frozen"])
def test_what_shall_learn_learns_and_nothing_else(member: Member, mode: str) -> None:
    model = member.model()
    before = copy.deepcopy(model.state_dict())
    fitting = prepare_fit(model, FitConfig(mode, late_blocks=2))
    learn(fitting)
    names = {n for n, _ in model.backbone.named_parameters()}
    expected = {"full": names, "late": late_names(model, 2), "frozen": set()}[mode]
    assert changed(model, before) == expected
    # batch statistics of what is frozen stand still too
    statistics = [n for n in before if "running_" in n]
    moved = {n for n in statistics if not torch.equal(model.state_dict()[n], before[n])}
    assert moved == {
        n
        for n in statistics
        if n.removeprefix("backbone.")
        .replace("running_mean", "weight")
        .replace("running_var", "weight")
        in expected
    }
    heads = [n for n, _ in model.named_parameters() if not n.startswith("backbone.")]
    assert all(not torch.equal(model.state_dict()[n], before[n]) for n in heads)
    assert fitting.n_trainable == sum(
        p.numel()
        for n, p in model.named_parameters()
        if n in heads or n.removeprefix("backbone.") in expected
    )
    plain = fitting.finish()
    assert plain.state_dict().keys() == before.keys()
    assert all(p.requires_grad for p in plain.parameters())


def _output_of(state: dict[str, Tensor], model: CenterMask, tiles: Tensor) -> Tensor:
    other = copy.deepcopy(model)
    other.load_state_dict(state)
    return output(other, tiles)


@pytest.mark.parametrize("mode", ["lora", "hybrid"])
def test_lora_learns_and_is_merged_from_weights_and_from_their_average(
    mode: str, tiles: Tensor
) -> None:
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    settings = LoraSettings(rank=4, rank_last=2, targets=("q", "v", "fc1"), dropout=0.1)
    fitting = prepare_fit(model, FitConfig(mode, late_blocks=1, lora=settings))
    adapted = (2, 3) if mode == "lora" else (0, 1, 2)
    assert fitting.config.lora.blocks == adapted
    average = learn(fitting)
    assert average.keys() == model.state_dict().keys()
    learned = output(model, tiles)
    merged_average = fitting.merged_state(average)
    for state, expected in (
        (fitting.merged_state(), learned),
        (merged_average, _output_of(average, model, tiles)),
    ):
        plain = small_model(seed=3)
        plain.load_state_dict(state)
        torch.testing.assert_close(output(plain, tiles), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output(model, tiles), learned, msg="the model stays what it was")
    late = late_names(small_model(), 1) if mode == "hybrid" else set()
    merged = {f"vit.blocks.{b}.{n}.weight" for b in adapted for n in ("attn.qkv", "mlp.fc1")}
    assert changed(fitting.finish(), before) == merged | late


def test_unchosen_thirds_stay_exactly_what_they_are() -> None:
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    lora = LoraSettings(targets=("q", "v"), blocks=(1,), l1=1e-3, l2=1e-3)
    fitting = prepare_fit(model, FitConfig("lora", lora=lora))
    average = learn(fitting, steps=4)
    name = "backbone.vit.blocks.1.attn.qkv.weight"
    for state in (fitting.merged_state(average), fitting.finish().state_dict()):
        for new, old, learns in zip(
            state[name].chunk(3), before[name].chunk(3), (True, False, True), strict=True
        ):
            assert torch.equal(new, old) != learns


def test_q_and_v_have_matrices_of_their_own() -> None:
    fitting = prepare_fit(
        small_model(), FitConfig("lora", lora=LoraSettings(rank=3, targets=("q", "v"), blocks=(0,)))
    )
    learn(fitting)
    name = "backbone.vit.blocks.0.attn.qkv.weight"
    base = small_model().state_dict()[name]
    update = fitting.merged_state()[name] - base
    q, _, v = update.chunk(3)
    assert torch.linalg.matrix_rank(q, tol=1e-5) == torch.linalg.matrix_rank(v, tol=1e-5) == 3
    assert torch.linalg.matrix_rank(torch.cat([q, v]), tol=1e-5) == 6
    # A of 2·3 × 32, and for each part a B of 32 × 3
    assert fitting.n_trainable - heads(fitting) == 6 * 32 + 2 * 32 * 3


def heads(fitting: Fitting) -> int:
    return sum(p.numel() for n, p in fitting.model.named_parameters() if "backbone" not in n)


def test_one_rate_makes_two_groups_in_the_order_of_the_weights() -> None:
    model = small_model()
    groups = prepare_fit(model).parameter_groups(RATE, DECAY)
    assert [g["weight_decay"] for g in groups] == [DECAY, 0.0]
    for group, wanted in zip(groups, (True, False), strict=True):
        expected = [p for p in model.parameters() if (p.ndim > 1) == wanted]
        assert all(a is b for a, b in zip(group["params"], expected, strict=True))
        assert group["lr"] == group["base_lr"] == RATE


def rates_of(fitting: Fitting, learning_rate: float) -> dict[str, float]:
    names = {id(p): n for n, p in fitting.model.named_parameters()}
    groups = fitting.parameter_groups(learning_rate, DECAY)
    found = [(names[id(p)], g["base_lr"]) for g in groups for p in g["params"]]
    assert len(found) == len(dict(found)) == len(fitting.parameters())
    return dict(found)


def test_rates_of_heads_backbone_and_blocks() -> None:
    fitting = prepare_fit(small_model(), FitConfig(backbone_rate=1e-5, layer_decay=0.5))
    rates = rates_of(fitting, 1e-3)
    assert rates["detector.scales"] == 1e-3
    assert rates["backbone.vit.norm.weight"] == 1e-5
    for block in range(4):
        name = f"backbone.vit.blocks.{block}.attn.qkv.weight"
        assert rates[name] == pytest.approx(1e-5 * 0.5 ** (3 - block))
    assert rates["backbone.vit.patch_embed.proj.weight"] == pytest.approx(1e-5 * 0.5**4)


def test_rates_of_a_hybrid_fit() -> None:
    config = FitConfig("hybrid", late_blocks=1, backbone_rate=1e-5, lora_rate=2e-4, layer_decay=0.5)
    rates = rates_of(prepare_fit(small_model(), config), 1e-3)
    assert rates["backbone.vit.blocks.3.mlp.fc1.weight"] == 1e-5
    for matrix in "AB":
        name = f"backbone.vit.blocks.1.mlp.fc1.lora_{matrix}.default.weight"
        assert rates[name] == pytest.approx(2e-4 * 0.25)
    assert "backbone.vit.blocks.1.mlp.fc1.base_layer.weight" not in rates


def test_a_schedule_scales_all_rates_alike() -> None:
    fitting = prepare_fit(small_model(), FitConfig(backbone_rate=1e-5))
    optimiser = torch.optim.AdamW(fitting.parameter_groups(1e-3, DECAY))
    scale_rates(optimiser, 0.5)
    scale_rates(optimiser, 0.1)
    rates = sorted({g["lr"] for g in optimiser.param_groups})
    assert rates == pytest.approx([1e-6, 1e-4])


def test_the_penalty_is_the_sum_of_magnitudes_and_squares() -> None:
    lora = LoraSettings(rank=2, blocks=(0,), targets=("proj",), l1=0.5, l2=0.25)
    fitting = prepare_fit(small_model(), FitConfig("lora", lora=lora))
    with torch.no_grad():
        for name, p in fitting.model.named_parameters():
            if ".lora_" in name:
                p.fill_(-2.0 if ".lora_A" in name else 1.0)
    # A and B have 2 · 32 entries each
    assert fitting.penalty().item() == pytest.approx(0.5 * 64 * 3 + 0.25 * 64 * 5)
    fitting.penalty().backward()
    matrix = next(p for n, p in fitting.model.named_parameters() if ".lora_A" in n)
    torch.testing.assert_close(matrix.grad, torch.full_like(matrix, -0.5 - 0.25 * 4))
    assert prepare_fit(small_model()).penalty().item() == 0


@pytest.mark.parametrize("member", PLAIN, ids=lambda m: m.id)
@pytest.mark.parametrize("mode", ["lora", "hybrid"])
def test_lora_says_where_it_finds_nothing(member: Member, mode: str) -> None:
    model = member.model()
    with pytest.raises(ModelError, match="Teach the heads or all weights"):
        prepare_fit(model, FitConfig(mode, late_blocks=1))
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("member", [m for m in MEMBERS if m not in PLAIN], ids=lambda m: m.id)
def test_hybrid_fits_merge_in_every_family_with_linear_layers(member: Member) -> None:
    model = member.model()
    names = model.state_dict().keys()
    fitting = prepare_fit(model, FitConfig("hybrid", late_blocks=1))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".lora_" in name:
                p.normal_(std=0.05)
    state = fitting.merged_state()
    assert state.keys() == names
    plain = member.model(seed=1)
    plain.load_state_dict(state)
    tiles = torch.rand(1, 3, 56, 56)
    torch.testing.assert_close(output(plain, tiles), output(model, tiles), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (FitConfig("late", late_blocks=5), "at most 4 late blocks"),
        (FitConfig("hybrid", late_blocks=4), "late blocks only"),
        (FitConfig("hybrid", late_blocks=2, lora=LoraSettings(blocks=(1, 2))), "block 2 in both"),
        (FitConfig("lora", lora=LoraSettings(blocks=(9,))), "blocks from 0 to 3"),
        (FitConfig("hybrid", late_blocks=1, lora=LoraSettings(blocks=(9,))), "blocks from 0 to 3"),
    ],
)
def test_blocks_that_do_not_fit(config: FitConfig, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        prepare_fit(small_model(), config)


@pytest.mark.parametrize(
    "wrong",
    [
        {"late_blocks": 0},
        {"backbone_rate": 0.0},
        {"lora_rate": -1.0},
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
    ],
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        FitConfig(**wrong)
