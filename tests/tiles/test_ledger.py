"""The ledger: what was found stays, whatever happens; settings never mix."""

from __future__ import annotations

import errno
import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dinomask.errors import OutputError
from dinomask.instances import Instances
from dinomask.tiles.ledger import STATES, Ledger, key_hash
from tests.tiles.scenes import planted_disks

KEY = {
    "image": {"path": "a.tif", "shape": (300, 200)},
    "model": "0f3a",
    "adapter": None,
    "settings": {"diameter_px": 30.0, "tile_px": 448},
}


def some_instances(seed: int = 0) -> Instances:
    return planted_disks(seed, (120, 120), 20.0)


def assert_same(one: Instances, other: Instances) -> None:
    for name in ("boxes_yxyx_px", "scores", "classes", "masks"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "o.ledger", KEY, n_tiles=2005)


def record_of(ledger: Ledger, index: int) -> Path:
    (path,) = ledger.path.glob(f"tiles/*/{index:09d}.npz")
    return path


def test_records_come_back_as_written(ledger: Ledger) -> None:
    for index in (0, 999, 1000, 2004):
        ledger.write(index, some_instances(index))
    ledger.write(3, Instances.empty())
    for index in (0, 999, 1000, 2004):
        assert_same(ledger.read(index), some_instances(index))
    assert len(ledger.read(3)) == 0
    assert [i for i, _ in ledger.records()] == [0, 3, 999, 1000, 2004]
    assert len(list(ledger.pending())) == 2000


def test_a_second_run_goes_on(ledger: Ledger) -> None:
    ledger.write(1, some_instances())
    again = Ledger.create(ledger.path, KEY, n_tiles=2005)
    assert again == ledger
    assert next(again.pending()) == 0
    assert_same(again.read(1), some_instances())


def test_the_key_does_not_depend_on_order_or_tuples(ledger: Ledger) -> None:
    other = dict(reversed(KEY.items()))
    other["image"] = {"shape": [300, 200], "path": "a.tif"}
    assert key_hash(other) == key_hash(KEY)
    assert Ledger.create(ledger.path, other, n_tiles=2005) == ledger


def test_another_key_is_refused_and_named(ledger: Ledger) -> None:
    ledger.write(1, some_instances())
    other = {**KEY, "settings": {**KEY["settings"], "diameter_px": 40.0}, "model": "77aa"}
    with pytest.raises(OutputError) as caught:
        Ledger.create(ledger.path, other, n_tiles=2005)
    assert "settings.diameter_px 30.0 before, 40.0 now" in caught.value.got
    assert 'model "0f3a" before, "77aa" now' in caught.value.got
    assert "tile_px" not in caught.value.got
    assert "--restart" in caught.value.remedy
    assert ledger.state(1) == "done"


def test_another_number_of_tiles_is_refused(ledger: Ledger) -> None:
    with pytest.raises(OutputError, match="n_tiles 2005 before, 7 now"):
        Ledger.create(ledger.path, KEY, n_tiles=7)


def test_restart_forgets_the_earlier_run(ledger: Ledger) -> None:
    ledger.write(1, some_instances())
    ledger.fail(2, "reason")
    fresh = Ledger.create(ledger.path, {"model": "other"}, n_tiles=3, restart=True)
    assert list(fresh.pending()) == [0, 1, 2]
    assert fresh.failed() == {}


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, restart: bool) -> None:
    folder = tmp_path / "o.ledger"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="Move it away"):
        Ledger.create(folder, KEY, n_tiles=3, restart=restart)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "o.ledger").mkdir()
    assert list(Ledger.create(tmp_path / "o.ledger", KEY, n_tiles=2).pending()) == [0, 1]


def test_open_finds_the_ledger_and_needs_no_key(ledger: Ledger, tmp_path: Path) -> None:
    assert Ledger.open(ledger.path) == ledger
    assert pickle.loads(pickle.dumps(ledger)) == ledger
    with pytest.raises(OutputError, match="a ledger of an earlier run"):
        Ledger.open(tmp_path)


def test_states_and_reasons(ledger: Ledger) -> None:
    assert ledger.state(5) == "pending"
    ledger.fail(5, "the chunk can't be read")
    assert ledger.state(5) == "failed"
    assert ledger.failed() == {5: "the chunk can't be read"}
    assert 5 in set(ledger.pending())
    ledger.write(5, some_instances())
    assert ledger.state(5) == "done"
    assert ledger.failed() == {}


def test_blank_tiles_are_done_and_known_as_blank(ledger: Ledger) -> None:
    ledger.write(5, Instances.empty(), blank=True)
    ledger.write(6, Instances.empty())
    ledger.fail(7, "the chunk can't be read")
    assert [ledger.state(i) for i in (4, 5, 6, 7)] == ["pending", "blank", "done", "failed"]
    states = ledger.states()
    assert states.shape == (2005,)
    assert [STATES[i] for i in states[4:8]] == ["pending", "blank", "done", "failed"]
    assert {5, 6}.isdisjoint(ledger.pending())
    assert {4, 7} <= set(ledger.pending())
    assert [i for i, _ in ledger.records()] == [5, 6]


def test_a_note_of_failure_that_outlived_a_success_does_not_count(ledger: Ledger) -> None:
    ledger.fail(5, "the chunk can't be read")
    note = next(ledger.path.glob("tiles/*/*.failed.json"))
    content = note.read_bytes()
    ledger.write(5, some_instances())
    # as if the work had been killed just before the note was removed
    note.write_bytes(content)
    assert ledger.failed() == {}
    assert ledger.state(5) == "done"
    assert STATES[ledger.states()[5]] == "done"


def test_the_states_of_a_new_ledger_come_at_once(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "o.ledger", KEY, n_tiles=10**7)
    started = time.perf_counter()
    assert not ledger.states().any()
    assert next(ledger.pending()) == 0
    assert time.perf_counter() - started < 2


def test_an_index_outside_is_refused(ledger: Ledger) -> None:
    for index in (-1, 2005):
        with pytest.raises(IndexError):
            ledger.write(index, some_instances())


@settings(suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_record_is_pending_or_unchanged(ledger: Ledger, data: st.DataObject) -> None:
    """Cut short, overwritten or flipped anywhere: never wrong instances, never a crash."""
    ledger.write(4, some_instances())
    path = record_of(ledger, 4)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(["cut", "flip", "zeros"])):
        case "cut":
            content = content[:at]
        case "flip":
            content[at] ^= data.draw(st.integers(1, 255))
        case "zeros":
            content[at:] = bytes(len(content) - at)
    path.write_bytes(content)
    if ledger.state(4) == "done":
        assert_same(ledger.read(4), some_instances())
    else:
        assert 4 in set(ledger.pending())
        with pytest.raises(OutputError, match="Run the same command again"):
            ledger.read(4)


def test_a_truncated_record_is_pending_and_can_be_redone(ledger: Ledger) -> None:
    ledger.write(4, some_instances())
    path = record_of(ledger, 4)
    path.write_bytes(path.read_bytes()[:-10])
    assert ledger.state(4) == "pending"
    assert [i for i, _ in ledger.records()] == []
    ledger.write(4, some_instances())
    assert ledger.state(4) == "done"


def test_a_record_of_other_arrays_is_pending(ledger: Ledger) -> None:
    ledger.write(4, some_instances())
    found = some_instances()
    np.savez(
        record_of(ledger, 4),
        boxes_yxyx_px=found.boxes_yxyx_px[:1],
        scores=found.scores,
        classes=found.classes,
        masks=found.masks,
    )
    assert ledger.state(4) == "pending"


def test_a_pickle_in_a_record_is_not_loaded(ledger: Ledger, tmp_path: Path) -> None:
    class Mischief:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "mischief",)

    ledger.write(4, some_instances())
    empty = Instances.empty()
    np.savez(
        record_of(ledger, 4),
        boxes_yxyx_px=np.array([Mischief()], dtype=object),
        scores=empty.scores,
        classes=empty.classes,
        masks=empty.masks,
    )
    assert ledger.state(4) == "pending"
    assert not (tmp_path / "mischief").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_failed_write_leaves_nothing_half_written(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    ledger.write(0, some_instances())

    def refuse(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OutputError, match=r"Free some space|another folder"):
            ledger.write(1, some_instances())
    assert [p.name for p in ledger.path.glob("tiles/*/*")] == ["000000000.npz"]
    assert ledger.state(1) == "pending"
    ledger.write(1, some_instances())
    assert ledger.state(1) == "done"


def test_a_write_that_fails_keeps_the_record_before(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.write(0, some_instances(1))

    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError):
        ledger.write(0, some_instances(2))
    assert_same(ledger.read(0), some_instances(1))


def test_a_missing_parent_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        Ledger.create(tmp_path / "no" / "o.ledger", KEY, n_tiles=1)


def test_remove_deletes_its_own_files_only(ledger: Ledger) -> None:
    ledger.write(0, some_instances())
    (ledger.path / "note.txt").write_text("mine")
    ledger.remove()
    assert [p.name for p in ledger.path.iterdir()] == ["note.txt"]
    (ledger.path / "note.txt").unlink()
    ledger.remove()
    assert not ledger.path.exists()


def test_run_json_can_be_read_by_people(ledger: Ledger) -> None:
    run = json.loads((ledger.path / "run.json").read_text())
    assert run["key"]["settings"]["diameter_px"] == 30.0
    assert run["n_tiles"] == 2005
