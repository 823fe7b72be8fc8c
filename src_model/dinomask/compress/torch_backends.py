"""Methods whose results PyTorch itself runs, but otherwise than it runs a checkpoint."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from dinomask.compress.artefacts import SATURATES, Artefact, reason_against_sums
from dinomask.config import SegmentConfig
from dinomask.nets.backends.torch_compiled import CompiledNetwork
from dinomask.nets.backends.torch_eager import placed
from dinomask.nets.backends.torch_int8 import can_quantise
from dinomask.nets.backends.torch_weights import linear_weights
from dinomask.nets.packing import pack
from dinomask.nets.precision import choose_dtype
from dinomask.nets.zoo import WEIGHTS_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.compress.subject import Subject
    from dinomask.compress.work import Work
    from dinomask.nets.centermask import CenterMask


class Compiled:
    """Compilation by TorchInductor when the model is loaded."""

    def reason_against(self, subject: Subject, settings: None) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        if torch.cuda.is_available():
            return None
        names = ("cl",) if sys.platform == "win32" else ("c++", "g++", "clang++")
        if not any(shutil.which(name) for name in names):
            return f"compiling for a CPU needs a C++ compiler ({' or '.join(names)})"
        return None

    def apply(self, subject: Subject, settings: None, work: Work) -> Subject:
        """Write the weights, and measure what the warm-up costs on this machine."""
        warm_up_s = round(_warm_up_s(subject, work), 1)
        work.note(
            f"each process that loads it first compiles for {warm_up_s:g} s here (less where"
            " PyTorch finds it in its cache): for long jobs only"
        )
        path = _write(subject.model, work.folder, ())
        artefact = Artefact.of(work, "compiled", [path], ["torch"], notes={"warm_up_s": warm_up_s})
        return dataclasses.replace(subject, artefact=artefact)


class Int8Dynamic:
    """Linear layers in 8 bits, activations quantised as they come."""

    def reason_against(self, subject: Subject, settings: None) -> str | None:
        """See `dinomask.compress.method.Implementation`."""
        if not linear_weights(subject.model.backbone):
            return "its backbone has no linear layers, and convolutions stay as they are"
        if not can_quantise():
            return "this PyTorch has no dynamic quantisation; install torchao"
        return reason_against_sums()

    def apply(self, subject: Subject, settings: None, work: Work) -> Subject:
        """Write the weights of linear layers in 8 bits, the others in half precision."""
        path = _write(subject.model, work.folder, linear_weights(subject.model))
        artefact = Artefact.of(
            work, "torch-int8", [path], ["torch"], precision="int8", processor=SATURATES
        )
        return dataclasses.replace(subject, artefact=artefact)


@torch.inference_mode()
def _warm_up_s(subject: Subject, work: Work) -> float:
    side = SegmentConfig().tiles.tile_px
    model = placed(subject.copied().model, work.device)
    network = CompiledNetwork(model, (1, 3, side, side))
    tiles = torch.rand(1, 3, side, side, device=work.device)
    tiles = tiles.to(memory_format=torch.channels_last)
    boxes = torch.rand(8, 4, device=work.device) * 50
    boxes[:, 2:] += boxes[:, :2] + 20
    dtype = choose_dtype("auto", work.device)
    half = torch.bfloat16 if dtype == torch.float32 else dtype
    with torch.autocast(work.device.type, half, enabled=dtype != torch.float32):
        took = []
        for _ in range(2):
            started = time.perf_counter()
            maps, _ = network.look(tiles)
            network.draw(maps, [boxes])
            took.append(time.perf_counter() - started)
    return took[0] - took[1]


def _write(model: CenterMask, folder: Path, int8: list[str] | tuple[()]) -> Path:
    path = folder / WEIGHTS_FILE
    state = {
        name: value if name in int8 else value.half() for name, value in model.state_dict().items()
    }
    save_file(pack(state, int8), path, metadata={"format": "pt"})
    return path


COMPILED = Compiled()
INT8_DYNAMIC = Int8Dynamic()
