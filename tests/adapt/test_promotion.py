"""Which adapter is in use: decisions are never lost, and follow from what is really there."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.adapt.promotion import (
    HISTORY_FILE,
    current,
    history,
    keep_aside,
    promote,
    rollback,
    standing,
)
from dinomask.errors import ModelError, OutputError
from dinomask.nets.adapter_manifest import adapters_folder
from tests.adapt.shelves import put_adapter, tiny_sha256

if TYPE_CHECKING:
    from pathlib import Path

BASE = tiny_sha256()


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DINOMASK_MODELS", str(tmp_path))
    return tmp_path


def test_rolling_back_goes_step_by_step_to_the_bare_model() -> None:
    for i, name in enumerate("abc"):
        put_adapter(name, float(i))
        promote(name, "better")
    assert current(BASE) == "c"
    assert [rollback(BASE) for _ in range(3)] == ["b", "a", None]
    with pytest.raises(ModelError, match="bare checkpoint"):
        rollback(BASE)
    kinds = [d.kind for d in history(BASE)]
    assert kinds == ["promoted"] * 3 + ["rolled back"] * 3
    assert all(d.time for d in history())


def test_what_was_kept_aside_says_why_until_it_is_promoted() -> None:
    put_adapter("a", 0.0)
    put_adapter("b", 1.0)
    promote("a")
    keep_aside("b", "no better on 12 held-out objects")
    assert current(BASE) == "a"
    assert standing() == {
        "a": ("in use", ""),
        "b": ("kept aside", "no better on 12 held-out objects"),
    }
    promote("b", "the user wants it")
    assert standing() == {"b": ("in use", "the user wants it")}
    assert rollback(BASE) == "a"


def test_keeping_the_one_in_use_aside_takes_it_out_of_use() -> None:
    put_adapter("a", 0.0)
    promote("a")
    keep_aside("a", "worse in the lab")
    assert current(BASE) is None


def test_checkpoints_have_a_history_each() -> None:
    put_adapter("a", 0.0)
    put_adapter("z", 1.0, base="other", base_sha256="f" * 64)
    promote("a")
    promote("z")
    assert (current(BASE), current("f" * 64)) == ("a", "z")
    assert rollback("f" * 64) is None
    assert current(BASE) == "a"


def test_another_adapter_under_the_same_name_is_not_the_promoted_one() -> None:
    put_adapter("a", 0.0)
    put_adapter("b", 1.0)
    promote("a")
    promote("b")
    shutil.rmtree(adapters_folder() / "b")
    assert current(BASE) == "a"
    put_adapter("b", 2.0)
    assert current(BASE) == "a"


def test_unknown_adapters_and_folders_elsewhere_have_no_part(tmp_path: Path) -> None:
    elsewhere = put_adapter("x", folder=tmp_path / "elsewhere")
    for name in ("missing", str(elsewhere)):
        with pytest.raises(ModelError, match="Known adapters"):
            promote(name)
    assert history() == []


@pytest.mark.parametrize("torn", ['{"kind": "prom', "[]", '{"kind": 1, "x": 2}', "\udcff"])
def test_a_torn_line_loses_nothing_else(torn: str) -> None:
    put_adapter("a", 0.0)
    put_adapter("b", 1.0)
    promote("a")
    path = adapters_folder() / HISTORY_FILE
    with path.open("ab") as file:
        file.write(torn.encode("utf-8", "surrogateescape"))
    assert current(BASE) == "a"
    promote("b")
    assert current(BASE) == "b"
    assert len(history()) == 2
    assert json.loads(path.read_text("utf-8", "replace").splitlines()[-1])["adapter"] == "b"


def test_a_history_that_cannot_be_written_says_so() -> None:
    put_adapter("a")
    (adapters_folder() / HISTORY_FILE).mkdir()
    with pytest.raises(OutputError, match=HISTORY_FILE):
        promote("a")


@given(st.lists(st.sampled_from(["a", "b", "c", "back"]), max_size=12))
def test_the_stack_of_promoted_adapters(tmp_path_factory, steps: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DINOMASK_MODELS", str(tmp_path_factory.mktemp("shelf")))
        stack: list[str] = []
        for i, name in enumerate("abc"):
            put_adapter(name, float(i))
        for step in steps:
            if step != "back":
                promote(step)
                stack = [*(s for s in stack if s != step), step]
            elif stack:
                stack.pop()
                assert rollback(BASE) == (stack[-1] if stack else None)
            assert current(BASE) == (stack[-1] if stack else None)
