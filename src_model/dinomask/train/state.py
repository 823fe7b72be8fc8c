"""What a training has to remember to go on where it stopped."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dinomask.errors import ModelError
from dinomask.nets.zoo import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from dinomask.nets.centermask import CenterMask
    from dinomask.train.balance import Balancer

STATE_FILE = "training_state.safetensors"


@dataclasses.dataclass
class TrainingState:
    """Weights, their average, the optimiser's moments and the counters.

    Attributes
    ----------
    average : exponential moving average of the weights; what checkpoints hold
    balancer : adds the losses up; what it learned is kept too
    step : optimiser steps taken
    elapsed_s : time spent, resumed parts included
    """

    model: CenterMask
    average: dict[str, Tensor]
    optimiser: torch.optim.AdamW
    balancer: Balancer
    step: int = 0
    elapsed_s: float = 0.0

    def parameters(self) -> list[nn.Parameter]:
        """Return all that learns."""
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the average towards the weights; faster in the first steps."""
        decay = min(decay, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def to(self, device: torch.device) -> None:
        """Move everything to a device."""
        self.model.to(device).to(memory_format=torch.channels_last)
        self.balancer.to(device)
        self.average = {k: v.to(device) for k, v in self.average.items()}
        for moments in self.optimiser.state.values():
            for key, value in moments.items():
                # AdamW keeps its step counter on the CPU
                if key != "step":
                    moments[key] = value.to(device)

    def write(self, path: Path) -> None:
        """Write everything to one safetensors file, at one stroke."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        tensors |= {f"balancer.{k}": v for k, v in self.balancer.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": v for k, v in moments.items()}
        # blocks may share weights, which a file holds once a name
        tensors = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
        counters = {"step": str(self.step), "elapsed_s": repr(self.elapsed_s)}
        write_atomically(path, save(tensors, metadata=counters))

    def read(self, path: Path) -> None:
        """Take over the state of a file.

        Raises
        ------
        ModelError
            If there is none, it is damaged, or of another architecture.
        """
        if not path.is_file():
            raise ModelError(
                expected="a training to resume",
                got=f"no {path}",
                remedy="Leave out --resume to start one.",
            )
        tensors, counters = _read_tensors(path)
        try:
            self.model.load_state_dict(_under(tensors, "model."))
            self.balancer.load_state_dict(_under(tensors, "balancer."))
        except RuntimeError as error:
            raise ModelError(
                expected="a training of the same architecture and way to fit",
                got=str(error).splitlines()[-1].strip(),
                remedy="Resume with the settings of the model that it was started with.",
            ) from error
        self.average = _under(tensors, "average.")
        adam: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(tensors, "adam.").items():
            index, name = key.split(".")
            adam.setdefault(int(index), {})[name] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": adam, "param_groups": groups})
        self.step = int(counters["step"])
        self.elapsed_s = float(counters["elapsed_s"])


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            counters = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        return tensors, {name: counters[name] for name in ("step", "elapsed_s")}
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(
            expected="the saved state of a training",
            got=f"{path}: {error}",
            remedy="Start again in another folder, with --init and this one's checkpoint.",
        ) from error


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
