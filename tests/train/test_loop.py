"""Training: it learns, it can be interrupted anywhere, and it keeps what was good."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from dinomask.config import AugmentConfig, ModelConfig, TrainConfig
from dinomask.errors import DataError, ModelError, OutputError, SettingsError
from dinomask.nets.catalogue import MANIFEST_FILE
from dinomask.nets.zoo import WEIGHTS_FILE, load_model, read_manifest
from dinomask.train.balance import Balancer
from dinomask.train.crops import CropDataset, collate
from dinomask.train.datasets import Sample, find_samples
from dinomask.train.loop import LOG_FILE, DivergedError, TrainProgress, train
from dinomask.train.schedule import rate_factor
from dinomask.train.state import STATE_FILE, TrainingState
from tests.limits import full_disk
from tests.nets.small import small_config, small_model
from tests.train.scenes import disc_labels, save, write_folder

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = TrainConfig(steps=5, batch=2, crop_px=56, rois_per_image=4, proposals_from=0.4)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return find_samples([write_folder(tmp_path_factory.mktemp("data") / "discs")])


class Recorder:
    """Keeps each step's losses; interrupts after a step if told so."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: list[TrainProgress] = []
        self.stop_after = stop_after

    def __call__(self, progress: TrainProgress) -> None:
        self.steps.append(progress)
        if progress.step == self.stop_after:
            raise KeyboardInterrupt

    @property
    def losses(self) -> dict[int, dict[str, float]]:
        return {p.step: p.losses for p in self.steps}


@pytest.fixture(scope="module")
def straight(
    samples: list[Sample], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Recorder]:
    """A training from start to end."""
    out, recorder = tmp_path_factory.mktemp("straight") / "model", Recorder()
    train(samples, out, CONFIG, architecture=small_config(), on_step=recorder)
    return out, recorder


def test_writes_a_checkpoint_that_loads(straight: tuple[Path, Recorder]) -> None:
    out, recorder = straight
    model, manifest = load_model(str(out))
    assert manifest.name == "model"
    assert manifest.architecture == small_config()
    assert manifest.training["steps"] == 5
    assert manifest.training["crops"] == 10
    assert manifest.training["settings"]["crop_px"] == 56
    assert [p.step for p in recorder.steps] == [1, 2, 3, 4, 5]
    assert recorder.steps[-1].fraction == 1
    assert recorder.steps[-1].eta_s == 0
    # checkpoints hold the averaged weights
    state = load_file(out / STATE_FILE)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[f"average.{name}"].half().float())


def test_interrupted_and_resumed_gives_the_same(
    samples: list[Sample], straight: tuple[Path, Recorder], tmp_path: Path
) -> None:
    out, first, second = tmp_path / "model", Recorder(stop_after=3), Recorder()
    with pytest.raises(KeyboardInterrupt):
        train(samples, out, CONFIG, architecture=small_config(), on_step=first)
    assert read_manifest(out).training["steps"] == 3
    # the architecture is that of the folder
    train(samples, out, CONFIG, resume=True, on_step=second)
    assert first.losses | second.losses == straight[1].losses
    resumed, whole = load_file(out / STATE_FILE), load_file(straight[0] / STATE_FILE)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_crops_do_not_depend_on_workers(samples: list[Sample]) -> None:
    data = CropDataset(samples, CONFIG, 32.0)
    tiles, targets = collate([data[3], data[4]])
    again, _ = collate([CropDataset(samples, CONFIG, 32.0)[i] for i in (3, 4)])
    assert torch.equal(tiles, again)
    assert tiles.shape == (2, 3, 56, 56)
    assert [len(t.boxes_yxyx_px) for t in targets] == [int(t.labels_yx.max()) for t in targets]
    assert {data.source(i) for i in range(20)} == {"scene0", "scene1"}


def test_rare_modalities_are_drawn_more_often_than_their_share(samples: list[Sample]) -> None:
    many = [dataclasses.replace(samples[0], modality="common")] * 9
    rare = [dataclasses.replace(samples[1], modality="rare")]
    data = CropDataset(many + rare, CONFIG, 32.0)
    # shares follow the square root of the counts: 3 to 1
    assert data.probabilities[-1] == pytest.approx(0.25)
    assert data.probabilities[:9] == pytest.approx(0.75 / 9)


def test_a_training_is_not_overwritten(
    samples: list[Sample], straight: tuple[Path, Recorder], tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="--resume"):
        train(samples, straight[0], CONFIG, architecture=small_config())
    # nor a checkpoint whose training was elsewhere
    for name in (WEIGHTS_FILE, MANIFEST_FILE):
        (tmp_path / name).write_bytes((straight[0] / name).read_bytes())
    with pytest.raises(OutputError, match=WEIGHTS_FILE):
        train(samples, tmp_path, CONFIG, architecture=small_config())
    with pytest.raises(ModelError, match="training to resume"):
        train(samples, tmp_path, CONFIG, resume=True)


def test_resuming_needs_the_same_architecture_and_a_whole_state(
    samples: list[Sample], straight: tuple[Path, Recorder], tmp_path: Path
) -> None:
    for name in (STATE_FILE, MANIFEST_FILE):
        (tmp_path / name).write_bytes((straight[0] / name).read_bytes())
    other = dataclasses.replace(small_config(), iou_width=16)
    with pytest.raises(ModelError, match="same architecture"):
        train(samples, tmp_path, CONFIG, architecture=other, resume=True)
    content = (tmp_path / STATE_FILE).read_bytes()
    (tmp_path / STATE_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="saved state of a training"):
        train(samples, tmp_path, CONFIG, resume=True)


def test_starts_from_another_models_weights(
    samples: list[Sample], straight: tuple[Path, Recorder], tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, steps=1, learning_rate=1e-12)
    train(samples, tmp_path / "next", config, init=str(straight[0]))
    old, new = (load_model(str(f))[0].state_dict() for f in (straight[0], tmp_path / "next"))
    torch.testing.assert_close(dict(new), dict(old))
    origin = read_manifest(tmp_path / "next").training["from"]
    assert origin["weights_sha256"] == read_manifest(straight[0]).weights_sha256
    assert origin["steps"] == 5
    train(samples, tmp_path / "next", dataclasses.replace(config, steps=2), resume=True)
    assert read_manifest(tmp_path / "next").training["from"] == origin
    with pytest.raises(ModelError, match="the architecture of"):
        train(samples, tmp_path / "x", config, init=str(straight[0]), architecture=ModelConfig())


def test_the_stem_of_another_model_may_grow(
    samples: list[Sample], straight: tuple[Path, Recorder], tmp_path: Path
) -> None:
    first, _ = load_model(str(straight[0]))
    longer = dataclasses.replace(first.config, stem_blocks=(1, 2, 3))
    config = dataclasses.replace(CONFIG, steps=2)
    train(samples, tmp_path / "next", config, init=str(straight[0]), architecture=longer)
    manifest = read_manifest(tmp_path / "next")
    assert manifest.architecture == longer
    grown = load_model(str(tmp_path / "next"))[0].state_dict()
    assert grown["pyramid.stem.to_14.3.out.weight"].abs().sum() > 0, "it learns"
    train(samples, tmp_path / "next", dataclasses.replace(config, steps=3), resume=True)
    assert read_manifest(tmp_path / "next").training["steps"] == 3


def test_divergence_stops_and_keeps_the_last_good_weights(
    samples: list[Sample], tmp_path: Path
) -> None:
    out, recorder = tmp_path / "model", Recorder()
    wild = dataclasses.replace(CONFIG, learning_rate=1e30, warmup=0.0)
    with pytest.raises(DivergedError, match="scene") as caught:
        train(samples, out, wild, architecture=small_config(), on_step=recorder)
    assert f"step {len(recorder.steps)} " in caught.value.got
    assert recorder.steps, "the first step is still finite"
    model, manifest = load_model(str(out))
    assert manifest.training["steps"] == 0
    assert all(v.abs().max() < 100 for v in model.state_dict().values())
    # and a lower rate goes on from there
    train(samples, out, CONFIG, resume=True)
    assert read_manifest(out).training["steps"] == 5


def test_a_full_disk_is_noticed_before_the_first_step(
    samples: list[Sample], tmp_path: Path
) -> None:
    recorder = Recorder()
    with full_disk(), pytest.raises(OutputError):
        train(samples, tmp_path / "x", CONFIG, architecture=small_config(), on_step=recorder)
    assert not recorder.steps


def test_loss_falls_and_is_logged(samples: list[Sample], tmp_path: Path) -> None:
    recorder = Recorder()
    calm = AugmentConfig(wide_scale_probability=0, rotate_probability=0, noise_probability=0)
    config = TrainConfig(
        steps=60, batch=2, crop_px=70, learning_rate=2e-3, rois_per_image=4, augment=calm
    )
    train(samples, tmp_path / "m", config, architecture=small_config(), on_step=recorder)
    totals = [p.losses["total"] for p in recorder.steps]
    assert sum(totals[-12:]) < 0.8 * sum(totals[:12])
    lines = (tmp_path / "m" / LOG_FILE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [20, 40, 60]
    assert json.loads(lines[-1])["losses"] == recorder.losses[60]


def test_minutes_end_a_training(samples: list[Sample], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=None, minutes=0.5 / 60)
    manifest = train(samples, tmp_path / "m", config, architecture=small_config())
    assert manifest.training["steps"] >= 1
    with pytest.raises(SettingsError, match="--minutes"):
        train(samples, tmp_path / "n", TrainConfig())


def test_images_without_any_object(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "empty", 1)
    save(folder / "labels" / "scene0.png", disc_labels(0))
    with pytest.raises(DataError, match="at least one annotated object"):
        CropDataset(find_samples([folder]), CONFIG, 32.0)


def test_learning_rate_rises_then_falls() -> None:
    config = TrainConfig(steps=100, warmup=0.1)
    rates = [rate_factor(config, i / 1000) for i in range(1000)]
    peak = rates.index(max(rates))
    assert 95 <= peak <= 101
    assert max(rates) == pytest.approx(1.0, abs=1e-3)
    assert all(a < b for a, b in itertools.pairwise(rates[:96]))
    assert all(a > b for a, b in itertools.pairwise(rates[101:]))
    assert rates[550] == pytest.approx(0.01 + 0.99 / 2, abs=1e-3)
    assert rates[-1] == pytest.approx(0.01, abs=1e-4)
    assert rate_factor(dataclasses.replace(config, warmup=0.0), 0.0) == 1.0


def _copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.items()}


def test_the_average_follows_the_weights() -> None:
    model = small_model()
    start = _copy(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters())
    state = TrainingState(model, _copy(start), optimiser, Balancer(()), step=10_000)
    with torch.no_grad():
        for p in model.parameters():
            p += 1.0
    for _ in range(50):
        state.update_average(0.9)
    share = 1 - 0.9**50
    for name, value in state.average.items():
        torch.testing.assert_close(value, start[name] + share, atol=1e-4, rtol=1e-4)
    # in the first steps it moves faster, so that it forgets the random start
    state = TrainingState(model, _copy(start), optimiser, Balancer(()), step=0)
    state.update_average(0.998)
    name = next(iter(start))
    torch.testing.assert_close(state.average[name], start[name] + 0.9)


def test_dropping_the_stem_goes_on_as_if_uninterrupted(
    samples: list[Sample], straight: tuple[Path, Recorder], tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, stem_drop_probability=0.5)
    whole, first, second = Recorder(), Recorder(stop_after=2), Recorder()
    train(samples, tmp_path / "whole", config, architecture=small_config(), on_step=whole)
    out = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        train(samples, out, config, architecture=small_config(), on_step=first)
    train(samples, out, config, resume=True, on_step=second)
    assert first.losses | second.losses == whole.losses
    assert whole.losses != straight[1].losses


@pytest.mark.parametrize("chance", [-0.1, 1.5])
def test_a_chance_is_from_0_to_1(chance: float) -> None:
    with pytest.raises(SettingsError, match="from 0 to 1"):
        TrainConfig(stem_drop_probability=chance)


def test_a_stem_that_is_always_dropped_learns_nothing_in_its_coarse_levels(
    samples: list[Sample], tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, stem_drop_probability=1.0, weight_decay=0.0)
    train(
        samples,
        tmp_path / "none",
        dataclasses.replace(config, steps=1, learning_rate=1e-12),
        architecture=small_config(),
    )
    train(samples, tmp_path / "all", config, architecture=small_config())
    before, after = (load_model(str(tmp_path / n))[0].state_dict() for n in ("none", "all"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [n for n in changed if "stem.to_7" in n or "stem.to_14" in n]
    assert any("stem.to_fine" in n for n in changed)
    assert any(n.startswith("backbone") for n in changed)
