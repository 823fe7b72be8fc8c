"""The state and the words of the Teach panel, without a window."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from dinomask.adapt import corrections as plan
from dinomask.adapt.corrections import Reviewed
from dinomask.adapt.job import JobReport
from dinomask.adapt.journal import Journal
from dinomask.adapt.label_store import ArrayStore
from dinomask.adapt.progress import Preflight, TeachProgress, TeachResult
from dinomask.config import TeachConfig
from dinomask.errors import SettingsError
from napari_dinomask.teach_wording import (
    NO_LESSON,
    say_lesson,
    say_plan,
    say_teaching,
    say_verdict,
)
from napari_dinomask.teaching import (
    Curves,
    Lesson,
    TeachIntent,
    join_classes,
    join_lessons,
    suggest_name,
)

if TYPE_CHECKING:
    from pathlib import Path


def progress(step: int, loss: float | None = None, held_out: float | None = None) -> TeachProgress:
    return TeachProgress("train", step, step / 100, float(step), 100.0 - step, loss, held_out)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    labels = np.zeros((40, 40), np.int32)
    labels[2:8, 2:8], labels[10:16, 2:8] = 1, 2
    labels[20:30, 20:34], labels[2:8, 30:36] = 3, 4
    store = ArrayStore(labels)
    journal = Journal.open(tmp_path / "a.journal.jsonl", "a", (40, 40), author="me")
    journal.carry_out(plan.remove(store, 4), store)
    journal.carry_out(plan.merge(store, [1, 2]), store)
    journal.carry_out(plan.split(store, 3, np.array([[18.0, 27.0], [32.0, 27.0]])), store)
    journal.carry_out(plan.add(store, np.ones((4, 4), bool), (34, 2)), store)
    journal.record(Reviewed.of_box((0, 0, 20, 20)))
    return journal


def test_layers_share_one_list_of_classes() -> None:
    def named(*names: str) -> Any:
        return SimpleNamespace(review=SimpleNamespace(class_names=names))

    assert join_classes([]) == ()
    assert join_classes([named(), named("cell", "dead"), named("cell")]) == ("cell", "dead")
    with pytest.raises(SettingsError, match="same names"):
        join_classes([named("cell", "dead"), named("cell", "dividing")])
    intent = TeachIntent("mine", classes=("cell", "dead"))
    assert intent.resolve().classes == ("cell", "dead")


def test_a_lesson_counts_objects_not_strokes(journal: Journal) -> None:
    lesson = Lesson.of(journal)
    # two became one, and one became two
    assert lesson.by_kind == {"remove": 1, "merge": 1, "split": 2, "add": 1}
    assert lesson.n_objects == 4
    assert lesson.n_removed == 1
    text = say_lesson(lesson)
    assert text.startswith("4\u00a0objects")
    assert "2 split" in text
    assert text.endswith("1 removed, 1\u00a0reviewed region")
    both = join_lessons([lesson, lesson])
    assert (both.n_objects, both.n_removed, both.n_reviewed) == (8, 2, 2)


def test_nothing_corrected_is_no_lesson(tmp_path: Path) -> None:
    empty = Lesson.of(Journal.open(tmp_path / "b.journal.jsonl", "b", (40, 40)))
    assert empty.is_empty
    assert say_lesson(empty) == NO_LESSON
    assert not Lesson({}, 1).is_empty


def test_the_form_becomes_settings() -> None:
    config = TeachIntent("nuclei 2", "tiny", "late", 2.5).resolve()
    assert config == TeachConfig(model="tiny", mode="late", minutes=2.5)


@pytest.mark.parametrize("name", ["", "../up", "a/b", "con", " x", "x" * 200])
def test_names_that_are_no_folders_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="another name"):
        TeachIntent(name).resolve()


def test_names_are_suggested_that_are_free() -> None:
    assert suggest_name("my cells.ome.tif", []) == "my_cells"
    assert suggest_name("a", ["a", "a-2"]) == "a-3"
    assert suggest_name("…", []) == "mine"
    TeachIntent(suggest_name("x" * 300, [])).resolve()


def test_curves_forget_what_a_crash_undid() -> None:
    curves = Curves()
    assert curves.take([progress(s, loss=1 / s) for s in range(1, 31)])
    curves.take([progress(30, held_out=0.5), progress(31, loss=9.0)])
    assert curves.steps == list(range(1, 32))
    assert (curves.checks, curves.held_out) == ([30], [0.5])
    assert 1 / 30 < curves.smooth[29] < 1
    # taken up from step 20
    curves.take([progress(21, loss=0.25)])
    assert curves.steps == list(range(1, 22))
    assert curves.losses[-1] == 0.25
    assert curves.checks == []
    assert len(curves.smooth) == len(curves.losses) == 21
    assert not curves.take([TeachProgress("gate", 21, 0.99, 1.0, 1.0)])


def test_what_the_panel_says() -> None:
    plan = Preflight(300.0, 1234.0, 24, 6, "lora")
    severity, text = say_plan(plan)
    assert severity == "info"
    assert "24\u00a0objects" in text
    assert "5\u00a0min" in text
    assert "1.2\u00a0GB" in text
    warned = say_plan(Preflight(60.0, 900.0, 3, 0, "heads", warnings=("too <few>",)))
    assert warned[0] == "warning"
    assert "too &lt;few&gt;" in warned[1]
    assert say_plan(Preflight(60.0, 900.0, 0, 0, "heads", problems=("none",)))[0] == "error"
    running = JobReport("running", memory_mb=512.0)
    told = say_teaching(running, progress(40, loss=0.5))
    assert told == "Learning · step 40 · loss 0.5 · 60\u00a0s left · 512\u00a0MB"
    assert "Paused · step 40" in say_teaching(JobReport("paused"), progress(40))
    assert "no sign of life" in say_teaching(JobReport("running", silent_s=90.0), progress(2))


def test_the_verdict_says_what_holds_now(tmp_path: Path) -> None:
    better = say_verdict("a<b", TeachResult(tmp_path, True, "0.5 → 0.7"))
    assert "in use now" in better
    assert "a&lt;b" in better
    worse = say_verdict("a", TeachResult(tmp_path, False, "too much was forgotten"))
    assert "kept aside" in worse
    assert "too much was forgotten" in worse


def test_the_state_needs_neither_window_nor_torch() -> None:
    code = (
        "import sys, napari_dinomask.teaching, napari_dinomask.teach_wording\n"
        "found = {'napari', 'qtpy', 'PyQt6', 'vispy', 'torch', 'peft'} & set(sys.modules)\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
