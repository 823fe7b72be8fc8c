"""Where a model's parameters, multiplications, time and memory are: where compressing pays."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dinomask.errors import ModelError
from dinomask.nets.centermask import CenterMask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from dinomask.instances import Array
    from dinomask.run.predictor import Predictor

REST = "RoI pooling and the rest"
"""What belongs to no module."""

SHORT_S = 1e-5
"""Modules without weights that take less are left out."""

N_ROIS = 100
"""Objects a tile whose masks are drawn: their number decides what the mask heads cost."""

ROI_PX = 32.0
"""Side of these objects, the model's usual one."""


@dataclasses.dataclass
class Layer:
    """What one module costs by itself, without the modules in it.

    Attributes
    ----------
    name : its path in the model
    kind : its class
    parameters : numbers in its own weights
    macs : multiplications with additions in one pass
    seconds : median time of one pass
    activation_mb : what it puts out, in MB
    calls : times it runs in one pass
    """

    name: str
    kind: str
    parameters: int = 0
    macs: int = 0
    seconds: float = 0.0
    activation_mb: float = 0.0
    calls: int = 0


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What a model's parts cost on one tile.

    Attributes
    ----------
    layers : every module that costs anything, in the order of the model
    tile_px : side of the tile
    n_rois : objects whose masks were drawn
    threads : of the processor
    """

    layers: tuple[Layer, ...]
    tile_px: int
    n_rois: int
    threads: int

    def groups(self, depth: int = 1) -> list[Layer]:
        """Add up the layers that share the first parts of their path; blocks count as parts."""
        found: dict[str, Layer] = {}
        for layer in self.layers:
            name = _group(layer.name, depth)
            group = found.setdefault(name, Layer(name, "group"))
            for field in ("parameters", "macs", "seconds", "activation_mb", "calls"):
                setattr(group, field, getattr(group, field) + getattr(layer, field))
        return list(found.values())

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a json report."""
        return dataclasses.asdict(self) | {
            "groups": [dataclasses.asdict(group) for group in self.groups()]
        }


def _group(name: str, depth: int) -> str:
    parts = name.split(".")
    if parts[0] != "backbone":
        return ".".join(parts[:depth])
    # backbone.vit.blocks.3.attn.qkv: attention and MLP of all blocks are what is compressed
    inside = parts[parts.index("blocks") + 2 :] if "blocks" in parts else parts[2:]
    kind = inside[0] if inside and "blocks" in parts else "rest"
    kind = {"attn": "attention", "mlp": "MLP"}.get(kind, "rest")
    if depth > 1 and "blocks" in parts:
        kind = f"block {parts[parts.index('blocks') + 1]} {kind}"
    return f"backbone {kind}"


def analyse(predictor: Predictor, tile: Array, *, repeats: int = 5) -> Analysis:
    """Measure every module of a model on one tile.

    Times are those of the module itself: what its parts take is theirs. Watching costs
    a little for each module, so that the sum is more than an unwatched pass takes.

    Parameters
    ----------
    predictor : a model that PyTorch runs
    tile : shape (3, H, W), float32, normalised; H and W multiples of 14
    repeats : passes of which medians are taken, after one that warms up

    Raises
    ------
    ModelError
        If a backend runs the model, of which nothing can be seen.
    """
    model = predictor.model
    tiles = torch.from_numpy(tile[None]).to(predictor.device)
    layers = {
        name: Layer(
            name or REST,
            type(module).__name__ if name else "",
            sum(p.numel() for p in module.parameters(recurse=False)),
        )
        for name, module in model.named_modules()
    }
    one_pass = _Pass(model)
    with predictor.autocast(), torch.inference_mode():
        for name, macs in _own_macs(one_pass, tiles).items():
            layers[name].macs = macs
        with _Watch(model, layers) as watch:
            for _ in range(repeats + 1):
                one_pass(tiles)
                watch.turn()
    kept = [x for x in layers.values() if x.parameters or x.macs or x.seconds > SHORT_S]
    return Analysis(tuple(kept), tile.shape[-1], N_ROIS, torch.get_num_threads())


def count_parameters(predictor: Predictor) -> int:
    """Return how many numbers a model's weights hold; shared ones count once."""
    return sum(p.numel() for p in _torch_model(predictor).parameters())


def count_macs(predictor: Predictor, tile: Array) -> int:
    """Return the multiplications of one tile with `N_ROIS` objects, in whatever arithmetic."""
    model = _torch_model(predictor)
    device = next(model.parameters()).device
    with torch.inference_mode():
        return sum(_own_macs(_Pass(model), torch.from_numpy(tile[None]).to(device)).values())


def _torch_model(predictor: Predictor) -> CenterMask:
    """Return the model; of one that a backend runs, another one of the same architecture."""
    try:
        return predictor.model
    except ModelError:
        return CenterMask(predictor.manifest.architecture).eval()


class _Pass(nn.Module):
    """One tile through everything, with a fixed number of objects."""

    def __init__(self, model: CenterMask) -> None:
        super().__init__()
        self.model = model

    def forward(self, tiles: Tensor) -> None:
        pyramid = self.model.features(tiles)
        self.model.dense(pyramid)
        self.model.masks(pyramid, [_boxes(tiles)])


def _boxes(tiles: Tensor) -> Tensor:
    """Return boxes all over a tile."""
    height, width = tiles.shape[-2:]
    generator = torch.Generator().manual_seed(0)
    room = torch.tensor([max(height - ROI_PX, 1), max(width - ROI_PX, 1)])
    corners = torch.rand(N_ROIS, 2, generator=generator) * room
    return torch.cat([corners, corners + ROI_PX], dim=1).to(tiles.device)


def _own_macs(one_pass: _Pass, tiles: Tensor) -> dict[str, int]:
    """Return the multiplications of each module by its path, without those of its parts."""
    with FlopCounterMode(display=False) as counter:
        one_pass(tiles)
    root = f"{type(one_pass).__name__}.model"
    found = {"": counter.get_total_flops()}
    for name, counts in counter.get_flop_counts().items():
        if name.startswith(f"{root}."):
            found[name.removeprefix(f"{root}.")] = sum(counts.values())
    own = dict(found)
    for name, total in found.items():
        parent = name.rpartition(".")[0]
        while parent not in found:
            parent = parent.rpartition(".")[0]
        if name:
            own[parent] -= total
    return {name: n // 2 for name, n in own.items()}


class _Watch:
    """Times modules by hooks, and takes what their parts took off.

    Parameters
    ----------
    model : whose modules
    layers : by their paths; seconds, activations and calls are filled in at the end
    """

    def __init__(self, model: nn.Module, layers: dict[str, Layer]) -> None:
        self._layers = layers
        self._turns: list[dict[str, float]] = []
        self._now: dict[str, float] = {}
        self._parts_s: list[float] = []
        self._turn_begun = 0.0
        self._starts: list[float] = []
        self._handles = []
        for name, module in model.named_modules():
            if name:
                self._handles.append(module.register_forward_pre_hook(self._begin))
                self._handles.append(module.register_forward_hook(self._end_of(name)))

    def __enter__(self) -> Self:
        self._turn_begun = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        # the first turn warms up
        turns = self._turns[1:] or self._turns
        for name, layer in self._layers.items():
            layer.seconds = statistics.median(turn.get(name, 0.0) for turn in turns)
            layer.calls //= len(self._turns)
            layer.activation_mb /= len(self._turns)

    def turn(self) -> None:
        """End a pass: what no part took is the model's own."""
        now = time.perf_counter()
        self._now[""] = now - self._turn_begun - sum(self._now.values())
        self._turns.append(self._now)
        self._now = {}
        self._turn_begun = time.perf_counter()

    def _begin(self, module: nn.Module, inputs: object) -> None:
        self._parts_s.append(0.0)
        self._starts.append(time.perf_counter())

    def _end_of(self, name: str) -> Callable[[nn.Module, object, object], None]:
        def end(module: nn.Module, inputs: object, output: object) -> None:
            whole = time.perf_counter() - self._starts.pop()
            parts = self._parts_s.pop()
            if self._parts_s:
                self._parts_s[-1] += whole
            self._now[name] = self._now.get(name, 0.0) + whole - parts
            layer = self._layers[name]
            layer.calls += 1
            layer.activation_mb += sum(t.nbytes for t in _tensors(output)) / 1e6

        return end


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _tensors(part)
