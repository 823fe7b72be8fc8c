"""What is done once stays done, and what changed is done again."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import accuracy
import pytest
from peers.environments import Environment
from peers.material import convert, hold_out
from peers.methods import CELLPOSE_RECIPE, MAKERS, Method, describe_training
from peers.stages import Plan, StageError, own_python, predict, runner_environment, train

from dinomask.errors import DataError, OutputError
from dinomask.train.datasets import find_samples

if TYPE_CHECKING:
    from pathlib import Path

RUNNER = """
import os, sys
from pathlib import Path
sys.path.insert(0, {peers!r})
import numpy as np
import runner_files as files

def note(text):
    with open({notes!r}, "a") as file:
        file.write(text + "\\n")

def train(job):
    note("train")
    return {{"threads": os.environ["OMP_NUM_THREADS"], "recipe": job["recipe"]}}

def predict(job):
    def load():
        note("load")
        def read(item):
            if item["name"] == os.environ.get("FAIL_AT"):
                raise ValueError("no memory")
            image, labels = files.read_annotated(item)
            return lambda: labels
        return read
    files.predict_all(job, load, ("numpy",))

files.main(train, predict)
"""


@pytest.fixture
def plan(discs: Path, tmp_path: Path) -> Plan:
    images = find_samples([discs], "train")
    converted = tmp_path / "work" / "images"
    return Plan(
        work=tmp_path / "work",
        folders=(discs,),
        train_split="train",
        train=convert(images, converted),
        held_out=convert(hold_out(images, 0), converted),
        val=convert(find_samples([discs], "val"), converted),
        minutes=1.0,
        threads=1,
        seed=0,
        clock="wall",
    )


@pytest.fixture
def method(repository: Path, tmp_path: Path) -> Method:
    """A method whose runner copies the labels and notes what it does."""
    peers, notes = str(repository / "benchmarks" / "peers"), str(tmp_path / "notes.txt")
    runner = tmp_path / "run_copy.py"
    runner.write_text(RUNNER.format(peers=peers, notes=notes), encoding="utf-8")
    return Method("copy", runner, {"rate": 0.1}, environment=Environment("copy", "3.11", ("x==1",)))


def notes(tmp_path: Path) -> list[str]:
    return (tmp_path / "notes.txt").read_text(encoding="utf-8").split()


@pytest.fixture
def python() -> Path:
    return own_python()


def test_nothing_is_done_twice(plan: Plan, method: Method, python: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert train(plan, method, python) == {"threads": "1", "recipe": {"rate": 0.1}}
        times = predict(plan, method, python)["images"]
        assert set(times) == {"discs.scene4", "discs.scene5"}
        assert all(t["wall_s"] >= 0 for t in times.values())
    assert notes(tmp_path) == ["train", "load"]
    predicted = plan.predictions_folder(method)
    assert sorted(p.name for p in predicted.glob("*")) == [
        "discs.scene4.tif",
        "discs.scene5.tif",
        "predicted.json",
    ]


def test_predictions_go_on_where_they_failed(
    plan: Plan, method: Method, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_AT", "scene5")
    train(plan, method, python)
    with pytest.raises(StageError, match="no memory"):
        predict(plan, method, python)
    first = plan.predictions_folder(method) / "discs.scene4.tif"
    written = first.stat().st_mtime_ns
    monkeypatch.delenv("FAIL_AT")
    assert set(predict(plan, method, python)["images"]) == {"discs.scene4", "discs.scene5"}
    assert first.stat().st_mtime_ns == written
    assert notes(tmp_path) == ["train", "load", "load"]


@pytest.mark.parametrize(
    "change",
    [{"minutes": 2.0}, {"threads": 2}, {"seed": 1}, {"clock": "cpu"}, {"train": []}],
    ids=lambda c: next(iter(c)),
)
def test_other_settings_are_another_training(
    plan: Plan, method: Method, change: dict[str, Any]
) -> None:
    other = dataclasses.replace(plan, **change)
    assert other.training_folder(method) != plan.training_folder(method)


def test_other_recipes_and_versions_are_another_training(plan: Plan, method: Method) -> None:
    newer = Environment("copy", "3.11", ("x==2",))
    for change in ({"recipe": {"rate": 0.2}}, {"environment": newer}):
        other = dataclasses.replace(method, **change)
        assert plan.training_folder(other) != plan.training_folder(method)


def test_other_val_images_leave_the_training(plan: Plan, method: Method) -> None:
    fewer = dataclasses.replace(plan, val=plan.val[:1])
    assert fewer.training_folder(method) == plan.training_folder(method)
    assert fewer.predictions_folder(method) != plan.predictions_folder(method)


def test_the_bundled_checkpoint_is_the_same_whatever_the_budget(plan: Plan) -> None:
    bundled, ours = MAKERS["bundled"](), MAKERS["dinomask"]()
    longer = dataclasses.replace(plan, minutes=99)
    assert longer.training_folder(bundled) == plan.training_folder(bundled)
    assert longer.training_folder(ours) != plan.training_folder(ours)
    training = describe_training(bundled, {}, "wall", 1)
    assert training["minutes"] > 0
    real = [d for d in training["trained_on"] if d["name"] != "generated images"]
    assert {d["split"] for d in real} == {"train"}


def test_minutes_follow_the_clock(method: Method) -> None:
    trained = {"steps": 3, "times": {"fit": {"wall_s": 120.0, "cpu_s": 90.0}}}
    assert describe_training(method, trained, "wall", 2)["minutes"] == 2
    assert describe_training(method, trained, "cpu", 2)["minutes"] == 0.75


def test_runners_are_kept_to_their_threads_and_off_the_gpu(plan: Plan) -> None:
    found = runner_environment(dataclasses.replace(plan, threads=3))
    assert found["OMP_NUM_THREADS"] == found["NUMBA_NUM_THREADS"] == "3"
    assert found["CUDA_VISIBLE_DEVICES"] == ""


def test_without_data_it_says_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DINOMASK_DATA", raising=False)
    with pytest.raises(DataError, match="--data FOLDER"):
        accuracy.data_folders(None)


def test_copies_never_replace_other_files(tmp_path: Path) -> None:
    made, out = tmp_path / "made", tmp_path / "out" / "copy"
    made.mkdir()
    (made / "a.tif").write_bytes(b"labels")
    for _ in range(2):
        accuracy.copy_labels(made, out)
    assert (out / "a.tif").read_bytes() == b"labels"
    (out / "a.tif").write_bytes(b"notes!")
    with pytest.raises(OutputError, match=r"no other a\.tif"):
        accuracy.copy_labels(made, out)
    assert (out / "a.tif").read_bytes() == b"notes!"


def test_recipes_are_plain_and_peers_are_pinned() -> None:
    for name in ("stardist", "cellpose"):
        environment = MAKERS[name]().environment
        assert environment is not None
        assert all("==" in r for r in environment.requirements)
    assert CELLPOSE_RECIPE["fewest_objects"] == 1, "peers must see every train image"
