"""Two processes train as one with their joint batch does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from dinomask.config import TrainConfig
from dinomask.nets.zoo import read_manifest
from dinomask.train.crops import crop_numbers
from dinomask.train.datasets import find_samples
from dinomask.train.loop import train
from dinomask.train.state import STATE_FILE
from tests.nets.small import small_config
from tests.train.scenes import write_folder

LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
SCRIPT = """
import sys
from pathlib import Path
from tests.train.test_processes import train_small
train_small(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
"""


def train_small(data: Path, out: Path, batch: int) -> None:
    """Train a few steps, and write down how the first process sees them."""
    config = TrainConfig(
        steps=4,
        batch=batch,
        crop_px=56,
        rois_per_image=4,
        proposals_from=0.3,
        threads=1,
        precision="fp32",
    )
    losses: list[Any] = []
    train(
        find_samples([data]),
        out,
        config,
        architecture=small_config(),
        on_step=lambda p: losses.append((p.step, p.crops, p.losses)),
    )
    if losses:
        Path(out, "losses.json").write_text(json.dumps(losses))


def _train(n_processes: int, data: Path, out: Path, batch: int) -> list[list[object]]:
    script = out.parent / "train_small.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    command = [*LAUNCH, str(n_processes), str(script), str(data), str(out), str(batch)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return _losses(out)


def _losses(out: Path) -> list[list[object]]:
    losses: list[list[object]] = json.loads((out / "losses.json").read_text())
    return losses


@pytest.mark.parametrize(("n_processes", "batch"), [(1, 6), (2, 3), (3, 2)])
def test_parts_make_up_the_batch(n_processes: int, batch: int) -> None:
    parts = [crop_numbers(5, batch, rank, n_processes) for rank in range(n_processes)]
    assert [i for part in parts for i in part] == list(range(30, 36))


def test_two_processes_follow_the_curve_of_one_with_double_batch(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "discs")
    train_small(data, tmp_path / "one", 4)
    one = _losses(tmp_path / "one")
    two = _train(2, data, tmp_path / "two", 2)
    assert [row[:2] for row in one] == [row[:2] for row in two] == [[i, 4 * i] for i in range(1, 5)]
    for (_, _, a), (_, _, b) in zip(one, two, strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-6)
    first, second = (load_file(tmp_path / name / STATE_FILE) for name in ("one", "two"))
    for name, value in first.items():
        if name.startswith("model."):
            assert (value - second[name]).abs().max() < 1e-3 * (1 + value.abs().max())
    assert read_manifest(tmp_path / "two").training["crops"] == 16
