"""The process of a teaching: followed, paused, stopped, killed and taken up again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from dinomask.adapt.job import TeachJob, jobs_folder, list_jobs
from dinomask.adapt.job_files import read_taught
from dinomask.adapt.promotion import current, standing
from dinomask.adapt.taught import TaughtImage
from dinomask.config import TeachConfig
from dinomask.errors import DataError, EngineError, OutputError
from dinomask.jobs.beat import Beat
from dinomask.jobs.files import LOG_FILE, PROCESS_FILE, PROGRESS_FILE
from tests.limits import full_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from dinomask.adapt.job import JobReport

COUNT = "tests.adapt.workers:count"
ENOUGH_S = 60.0
CANCEL_S = 4.0
"""One second on a machine with nothing else to do: the process has the lowest priority."""

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals or limits")


@pytest.fixture
def folder(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    folder = tmp_path / "jobs" / "mine"
    yield folder
    for found in list_jobs(tmp_path / "jobs"):
        with contextlib.suppress(DataError):
            TeachJob.attach(found).kill()


@pytest.fixture
def taught() -> list[TaughtImage]:
    rng = np.random.default_rng(0)
    labels = np.full((40, 50), -1, np.int32)
    labels[3:9, 4:9] = 1
    labels[20:29, 30:40] = 2
    labels[30:, :10] = -2
    grey = TaughtImage("a b", rng.integers(0, 4000, (1, 40, 50), np.uint16), False, labels)
    rgb = rng.integers(0, 255, (3, 40, 50), np.uint8)
    return [grey, TaughtImage("ä", rgb, True, labels, np.array([0, 2, 1]), "dish", rgb[:, 0])]


def wait_for(job: TeachJob, is_met: Callable[[JobReport], bool]) -> JobReport:
    end = time.monotonic() + ENOUGH_S
    while time.monotonic() < end:
        report = job.poll()
        if is_met(report):
            return report
        time.sleep(0.01)
    pytest.fail(f"still {report}")


def reached(step: int) -> Callable[[JobReport], bool]:
    return lambda report: any(p.step >= step for p in report.progress)


def process_of(job: TeachJob) -> psutil.Process:
    return psutil.Process(json.loads((job.folder / PROCESS_FILE).read_text())["pid"])


def test_from_start_to_end_in_a_modest_process(folder: Path, taught: list[TaughtImage]) -> None:
    config = TeachConfig(steps=30, mode="late", threads=3)
    job = TeachJob.start(taught, "mine", config, folder, work=COUNT)
    assert job.poll().state == "starting"
    report = job.wait(ENOUGH_S)
    assert report.state == "finished", report.problem
    steps = [p.step for p in report.progress]
    assert steps == sorted(set(steps))
    assert steps[-1] == 30
    assert report.progress[0].loss == 1.0
    assert report.result.folder == folder / "work" / "mine"
    assert report.result.promoted
    figures = report.result.figures
    assert figures["objects"] == 4
    assert figures["threads"] == "3"
    assert not {"napari", "qtpy", "PyQt6", "vispy", "magicgui"} & set(figures["modules"])
    if os.name == "posix":
        assert figures["nice"] >= 10
    assert list_jobs(folder.parent) == [folder]


def test_what_is_taught_arrives_as_it_was(folder: Path, taught: list[TaughtImage]) -> None:
    config = TeachConfig(model="m", mode="hybrid", minutes=2.5, steps=1, seed=7)
    job = TeachJob.start(taught, "mine", config, folder, work=COUNT)
    attached = TeachJob.attach(folder, work=COUNT)
    assert attached.inputs.config == config
    assert attached.inputs.name == "mine"
    for before, after in zip(taught, read_taught(folder, attached.inputs), strict=True):
        for field in dataclasses.fields(before):
            ours, theirs = getattr(before, field.name), getattr(after, field.name)
            assert type(ours) is type(theirs)
            if isinstance(ours, np.ndarray):
                assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(OutputError, match="discard it"):
        TeachJob.start(taught, "other", config, folder, work=COUNT)
    assert job.wait(ENOUGH_S).state == "finished"


def test_a_pause_costs_no_processor_time(folder: Path, taught: list[TaughtImage]) -> None:
    job = TeachJob.start(taught, "mine", TeachConfig(steps=120), folder, work=COUNT)
    wait_for(job, reached(5))
    job.pause()
    time.sleep(1.0)
    process = process_of(job)
    before_s = sum(process.cpu_times()[:2])
    time.sleep(1.0)
    assert sum(process.cpu_times()[:2]) - before_s < 0.1
    assert job.poll().state == "paused"
    assert job.poll().progress == ()
    # by another handle, such as that of the next window
    other = TeachJob.attach(folder, work=COUNT)
    other.resume()
    assert other.wait(ENOUGH_S).state == "finished"


def test_cancelled_within_a_second_and_taken_up_again(
    folder: Path, taught: list[TaughtImage]
) -> None:
    job = TeachJob.start(taught, "mine", TeachConfig(steps=150), folder, work=COUNT)
    wait_for(job, reached(3))
    job.cancel()
    asked = time.monotonic()
    assert job.wait(ENOUGH_S).state == "cancelled"
    assert time.monotonic() - asked < CANCEL_S
    assert not job.is_alive
    saved = int((folder / "work" / "step.txt").read_text())
    job.resume()
    wait_for(job, lambda report: report.state == "running")
    job.pause()
    wait_for(job, lambda report: report.state == "paused")
    # a paused one obeys too
    job.cancel()
    assert job.wait(ENOUGH_S).state == "cancelled"
    job.resume()
    report = job.wait(ENOUGH_S)
    assert report.state == "finished"
    assert report.result.figures["first"] >= saved > 0


def test_a_long_step_does_not_hold_up_a_cancel(folder: Path, taught: list[TaughtImage]) -> None:
    job = TeachJob.start(taught, "mine", TeachConfig(), folder, work="tests.adapt.workers:dawdle")
    wait_for(job, reached(1))
    job.cancel()
    asked = time.monotonic()
    assert job.wait(ENOUGH_S).state == "cancelled"
    assert time.monotonic() - asked < CANCEL_S


def test_killed_in_the_middle_and_taken_up_by_another(
    folder: Path, taught: list[TaughtImage]
) -> None:
    job = TeachJob.start(taught, "mine", TeachConfig(steps=100), folder, work=COUNT)
    wait_for(job, reached(25))
    process_of(job).kill()
    report = job.wait(ENOUGH_S)
    assert report.state == "interrupted"
    assert isinstance(report.problem, EngineError)
    if os.name == "posix":
        assert "signal 9" in report.problem.got
    assert "Go on" in report.problem.remedy
    with (folder / PROGRESS_FILE).open("a") as file:
        file.write('{"phase": "tra\n')
    other = TeachJob.attach(folder, work=COUNT)
    assert other.poll().state == "interrupted"
    other.resume()
    report = other.wait(ENOUGH_S)
    assert report.state == "finished"
    assert report.result.figures["first"] >= 10


def test_two_processes_never_work_on_one_job(folder: Path, taught: list[TaughtImage]) -> None:
    job = TeachJob.start(taught, "mine", TeachConfig(steps=100_000), folder, work=COUNT)
    wait_for(job, reached(2))
    process = process_of(job)
    TeachJob.attach(folder, work=COUNT).launch()
    assert process_of(job) == process
    command = [sys.executable, "-m", "dinomask.adapt.job_worker", str(folder), COUNT]
    assert subprocess.run(command, check=False, timeout=ENOUGH_S).returncode == 3
    assert job.poll().state == "running"
    job.discard()
    assert not process.is_running()
    assert not folder.exists()


@posix
def test_it_outlives_who_started_it_and_obeys_the_system(
    folder: Path, taught: list[TaughtImage]
) -> None:
    TeachJob.start(taught, "x", TeachConfig(steps=300), folder, work=COUNT).discard()
    code = f"""
import numpy as np
from pathlib import Path
from dinomask.adapt.job import TeachJob
from dinomask.adapt.promotion import current, standing
from dinomask.adapt.taught import TaughtImage
from dinomask.config import TeachConfig
image = TaughtImage("a", np.zeros((1, 9, 9)), False, np.ones((9, 9), np.int32))
TeachJob.start([image], "mine", TeachConfig(steps=300), Path({str(folder)!r}), work={COUNT!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=ENOUGH_S)
    job = TeachJob.attach(folder, work=COUNT)
    wait_for(job, reached(3))
    # as at the machine's shutdown: saved, and not taken for the user's wish
    process_of(job).terminate()
    report = wait_for(job, lambda report: report.is_over)
    assert report.state == "interrupted"
    assert int((folder / "work" / "step.txt").read_text()) >= 3


def test_the_number_of_a_dead_process_may_be_used_again(
    folder: Path, taught: list[TaughtImage]
) -> None:
    job = TeachJob.start(taught, "mine", TeachConfig(steps=5), folder, work=COUNT)
    assert job.wait(ENOUGH_S).state == "finished"
    for file in ("result.json", "launched.json"):
        (folder / file).unlink()
    beat = Beat.of(os.getpid())
    assert beat.is_alive
    older = dataclasses.replace(beat, started=beat.started - 60)
    (folder / PROCESS_FILE).write_text(json.dumps(dataclasses.asdict(older)))
    assert job.poll().state == "interrupted"


@pytest.mark.parametrize(
    ("work", "got", "remedy"),
    [
        ("stumble", "no_such_field", "worker.log"),
        ("starve", "none left", "needs less"),
        pytest.param("fill", "File too large", "Free some space", marks=posix),
        ("no_such_function", "no_such_function", "report"),
    ],
)
def test_the_reason_of_a_failure_reaches_the_user(
    folder: Path, taught: list[TaughtImage], work: str, got: str, remedy: str
) -> None:
    name = f"tests.adapt.workers:{work}"
    report = TeachJob.start(taught, "mine", TeachConfig(), folder, work=name).wait(ENOUGH_S)
    assert report.state == "failed"
    assert got in report.problem.got
    assert remedy in report.problem.remedy
    assert "Traceback" in (folder / LOG_FILE).read_text()


def test_what_passed_the_gate_is_in_use_the_rest_is_kept_aside(
    folder: Path, taught: list[TaughtImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path / "models"))
    work = "tests.adapt.workers:shelve"
    for name, mode in (("good", "lora"), ("worse", "late")):
        place = folder.with_name(name)
        job = TeachJob.start(taught, name, TeachConfig(mode=mode), place, work=work)
        assert job.wait(ENOUGH_S).state == "finished"
    assert current("b" * 64) == "good"
    assert standing()["worse"] == ("kept aside", "So it is.")


def test_bad_folders_are_refused(folder: Path, taught: list[TaughtImage]) -> None:
    with pytest.raises(DataError, match=r"job\.json"):
        TeachJob.attach(folder)
    with full_disk(500), pytest.raises(OutputError, match="Free some space"):
        TeachJob.start(taught, "mine", TeachConfig(), folder, work=COUNT)
    # what has no job.json is no job
    assert list_jobs(folder.parent) == []
    job = TeachJob.start(taught, "mine", TeachConfig(steps=2), folder, work=COUNT)
    assert job.wait(ENOUGH_S).state == "finished"
    (folder / "taught" / "0001.npz").write_bytes(b"PK")
    job.resume()
    report = job.wait(ENOUGH_S)
    assert report.state == "failed"
    assert "0001.npz" in report.problem.got
    (folder / "job.json").write_text((folder / "job.json").read_text()[:-40])
    with pytest.raises(DataError, match="kept in their journal"):
        TeachJob.attach(folder)


def test_following_a_job_imports_no_torch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DINOMASK_JOBS", str(tmp_path))
    assert jobs_folder() == tmp_path
    code = (
        "import sys, dinomask.adapt.job\n"
        "heavy = {'torch', 'timm', 'peft', 'napari'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=ENOUGH_S)
