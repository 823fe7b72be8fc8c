"""The training loop: resumable, with averaged weights and a time or step budget."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dinomask.config import ModelConfig, TrainConfig, as_dict
from dinomask.errors import DataError, ModelError, OutputError
from dinomask.nets.backbone import create_backbone
from dinomask.nets.centermask import CenterMask
from dinomask.nets.detection import InstanceTargets
from dinomask.nets.zoo import Manifest, load_model, save_checkpoint, write_atomically
from dinomask.train.augment import AnnotatedImage, Crop, draw_crop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dinomask.train.datasets import Sample

STATE_FILE = "training_state.safetensors"
LOG_FILE = "training_log.jsonl"
LOSS_WEIGHTS = {"class": 1.0, "box": 1.0, "centerness": 1.0, "mask": 1.0, "mask_iou": 1.0}


@dataclasses.dataclass(frozen=True)
class TrainProgress:
    """Where a training stands."""

    step: int
    fraction: float
    elapsed_s: float
    crops: int
    learning_rate: float
    losses: dict[str, float]

    @property
    def eta_s(self) -> float:
        """Seconds left, from the speed so far."""
        return self.elapsed_s * (1 - self.fraction) / max(self.fraction, 1e-9)


class CropDataset(Dataset[Crop]):
    """Crop number i is drawn from a generator seeded with (seed, i).

    So the crops don't depend on the number of worker processes, nor on how
    often the training was interrupted.
    """

    def __init__(
        self, samples: Sequence[Sample], config: TrainConfig, target_diameter_px: float
    ) -> None:
        self.images = [AnnotatedImage.read(sample) for sample in samples]
        if all(image.diameter_px is None for image in self.images):
            raise DataError(
                expected="at least one annotated object",
                got=f"{len(samples)} images without any",
                remedy="Check that the labels were exported as integers above 0.",
            )
        self.config = config
        self.target_diameter_px = target_diameter_px
        kinds = [(s.dataset, s.modality) for s in samples]
        share = {k: kinds.count(k) ** config.modality_power for k in set(kinds)}
        weights = np.array([share[k] / kinds.count(k) for k in kinds])
        self.probabilities = weights / weights.sum()

    def __getitem__(self, index: int) -> Crop:
        """Draw crop number `index`."""
        rng = np.random.default_rng((self.config.seed, index))
        image = self.images[int(rng.choice(len(self.images), p=self.probabilities))]
        config = self.config
        return draw_crop(image, config.crop_px, self.target_diameter_px, config.augment, rng)


def collate(crops: list[Crop]) -> tuple[Tensor, list[InstanceTargets]]:
    """Stack crops to tiles of shape (B, 3, H, W) and their targets."""
    tiles = torch.from_numpy(np.stack([crop.image_cyx for crop in crops]))
    targets = [
        InstanceTargets(
            torch.from_numpy(crop.labels_yx),
            torch.from_numpy(crop.boxes_yxyx_px),
            torch.from_numpy(crop.classes),
            torch.from_numpy(crop.areas_px),
        )
        for crop in crops
    ]
    return tiles, targets


@dataclasses.dataclass
class _State:
    model: CenterMask
    average: dict[str, Tensor]
    optimiser: torch.optim.AdamW
    step: int = 0
    elapsed_s: float = 0.0


def train(
    samples: Sequence[Sample],
    out: Path,
    config: TrainConfig,
    *,
    architecture: ModelConfig | None = None,
    init: str | None = None,
    backbone_weights: str | None = None,
    resume: bool = False,
    score_threshold: float | None = None,
    manifest: Manifest | None = None,
    on_step: Callable[[TrainProgress], None] | None = None,
) -> Manifest:
    """Train a model and write a checkpoint.

    Parameters
    ----------
    samples : annotated images to draw crops from
    out : checkpoint folder; the training's state and log are kept in it
    config : settings
    architecture : the model to build; None takes the default, or that of `init`
    init : model whose weights to start from
    backbone_weights : see `dinomask.nets.backbone.create_backbone`
    resume : go on from the state in `out`
    score_threshold : stored as the lowest score the model should report
    manifest : provenance to store; name, architecture and training are filled in
    on_step : called after each step; an exception from it ends the training
        after the state was saved

    Raises
    ------
    ModelError
        If the loss becomes NaN (the last good state is kept), or `init` is unknown.
    OutputError
        If `out` holds a training already and `resume` is off, or can't be written.
    """
    config.require_budget()
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device = _device(config.device)
    state, manifest = _prepare(out, config, architecture, init, backbone_weights, resume, manifest)
    state.model.to(device).to(memory_format=torch.channels_last)
    _to_device(state, device)
    if score_threshold is not None:
        manifest = dataclasses.replace(manifest, score_threshold=score_threshold)
    data = CropDataset(samples, config, state.model.config.target_diameter_px)
    last_save = time.monotonic()
    try:
        for progress in _steps(state, data, config, device):
            if on_step:
                on_step(progress)
            if progress.step % 20 == 0:
                _log(out, progress)
            if time.monotonic() - last_save > config.save_every_s:
                _save(out, state, config, manifest)
                last_save = time.monotonic()
    finally:
        manifest = _save(out, state, config, manifest)
    return manifest


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _prepare(
    out: Path,
    config: TrainConfig,
    architecture: ModelConfig | None,
    init: str | None,
    backbone_weights: str | None,
    resume: bool,
    manifest: Manifest | None,
) -> tuple[_State, Manifest]:
    if (out / STATE_FILE).exists() and not resume:
        raise OutputError(
            expected="a folder without a training",
            got=f"{out / STATE_FILE}",
            remedy="Add --resume to go on with it, or choose another --out.",
        )
    if init is not None:
        model, _ = load_model(init)
        if architecture is not None and architecture != model.config:
            raise ModelError(
                expected=f"the architecture of {init!r}",
                got="other settings of the model",
                remedy="Leave out --init or the settings.",
            )
    else:
        architecture = architecture or ModelConfig()
        backbone = create_backbone(architecture.backbone, backbone_weights)
        model = CenterMask(architecture, backbone)
    model.train()
    state = _State(model, {}, _optimiser(model, config))
    if resume:
        _restore(out / STATE_FILE, state)
    else:
        state.average = {k: v.clone() for k, v in model.state_dict().items()}
    base = manifest or Manifest(out.name, model.config)
    return state, dataclasses.replace(base, architecture=model.config)


def _optimiser(model: CenterMask, config: TrainConfig) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)


def _fraction(state: _State, config: TrainConfig) -> float:
    parts = []
    if config.steps is not None:
        parts.append(state.step / config.steps)
    if config.minutes is not None:
        parts.append(state.elapsed_s / (config.minutes * 60))
    return min(1.0, max(parts))


def learning_rate(config: TrainConfig, fraction: float) -> float:
    """Linear warm-up, then a cosine down to a hundredth of the peak."""
    if fraction < config.warmup:
        return config.learning_rate * (fraction + 1e-4) / config.warmup
    phase = (fraction - config.warmup) / (1 - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase)))


def _steps(
    state: _State, data: CropDataset, config: TrainConfig, device: torch.device
) -> Iterator[TrainProgress]:
    started = time.monotonic() - state.elapsed_s
    batches = _batches(state.step, data, config)
    while (fraction := _fraction(state, config)) < 1:
        rate = learning_rate(config, fraction)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        losses = _step(state, next(batches), config, device, fraction)
        state.step += 1
        state.elapsed_s = time.monotonic() - started
        yield TrainProgress(
            state.step,
            _fraction(state, config),
            state.elapsed_s,
            state.step * config.batch,
            rate,
            losses,
        )


def _batches(
    step: int, data: CropDataset, config: TrainConfig
) -> Iterator[tuple[Tensor, list[InstanceTargets]]]:
    first = step * config.batch

    def indices() -> Iterator[list[int]]:
        start = first
        while True:
            yield list(range(start, start + config.batch))
            start += config.batch

    loader = DataLoader(
        data, batch_sampler=indices(), num_workers=config.workers, collate_fn=collate
    )
    yield from loader


def _step(
    state: _State,
    batch: tuple[Tensor, list[InstanceTargets]],
    config: TrainConfig,
    device: torch.device,
    fraction: float,
) -> dict[str, float]:
    tiles, targets = batch
    tiles = tiles.to(device, memory_format=torch.channels_last)
    targets = [
        InstanceTargets(*(getattr(t, f.name).to(device) for f in dataclasses.fields(t)))
        for t in targets
    ]
    n_proposals = config.proposals_per_image if fraction >= config.proposals_from else 0
    # bf16 is slower than fp32 on CPUs without matrix units, so only CUDA uses it
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        losses = state.model.losses(tiles, targets, config.rois_per_image, n_proposals)
    total = torch.stack([LOSS_WEIGHTS[k] * v for k, v in losses.items()]).sum()
    if not torch.isfinite(total):
        raise ModelError(
            expected="a finite loss",
            got=f"{ {k: float(v) for k, v in losses.items()} } at step {state.step}",
            remedy="Lower --learning-rate and add --resume: the last good state is kept.",
        )
    state.optimiser.zero_grad(set_to_none=True)
    total.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_norm)
    state.optimiser.step()
    _update_average(state, config)
    return {k: float(v.detach()) for k, v in losses.items()} | {"total": float(total.detach())}


@torch.no_grad()
def _update_average(state: _State, config: TrainConfig) -> None:
    decay = min(config.ema_decay, (1 + state.step) / (10 + state.step))
    for name, value in state.model.state_dict().items():
        state.average[name].lerp_(value, 1 - decay)


def _log(out: Path, progress: TrainProgress) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(dataclasses.asdict(progress)) + "\n")


def _save(out: Path, state: _State, config: TrainConfig, manifest: Manifest) -> Manifest:
    tensors = {f"model.{k}": v for k, v in state.model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.items()}
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{k}": v for k, v in moments.items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    counters = {"step": str(state.step), "elapsed_s": repr(state.elapsed_s)}
    write_atomically(out / STATE_FILE, save(tensors, metadata=counters))
    training: dict[str, Any] = {
        "settings": as_dict(config),
        "steps": state.step,
        "crops": state.step * config.batch,
        "minutes": round(state.elapsed_s / 60, 1),
    }
    manifest = dataclasses.replace(manifest, training=training)
    return save_checkpoint(out, state.average, manifest)


def _restore(path: Path, state: _State) -> None:
    if not path.is_file():
        raise ModelError(
            expected="a training to resume",
            got=f"no {path}",
            remedy="Leave out --resume to start one.",
        )
    with safe_open(path, "pt") as file:
        counters = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    try:
        state.model.load_state_dict(_under(tensors, "model."))
    except RuntimeError as error:
        raise ModelError(
            expected="a training of the same architecture",
            got=str(error).splitlines()[0],
            remedy="Resume with the settings of the model that it was started with.",
        ) from error
    state.average = _under(tensors, "average.")
    adam: dict[int, dict[str, Tensor]] = {}
    for key, value in _under(tensors, "adam.").items():
        index, name = key.split(".")
        adam.setdefault(int(index), {})[name] = value
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": adam, "param_groups": groups})
    state.step = int(counters["step"])
    state.elapsed_s = float(counters["elapsed_s"])


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _to_device(state: _State, device: torch.device) -> None:
    state.average = {k: v.to(device) for k, v in state.average.items()}
    for moments in state.optimiser.state.values():
        for key, value in moments.items():
            # AdamW keeps its step counter on the CPU
            if key != "step":
                moments[key] = value.to(device)
