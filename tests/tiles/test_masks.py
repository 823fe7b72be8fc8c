"""Masks in memory or in an unnamed file: the same either way."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dinomask.errors import OutputError
from dinomask.tiles import masks as masks_module
from dinomask.tiles.masks import MaskStore, release_pages

if TYPE_CHECKING:
    from pathlib import Path


def filled(folder: Path, seed: int = 0) -> tuple[MaskStore, np.ndarray]:
    rng = np.random.default_rng(seed)
    parts = [rng.integers(0, 256, (n, 9, 9)).astype(np.uint8) for n in (3, 0, 40, 1, 500)]
    store = MaskStore(folder)
    for part in parts:
        store.append(part)
    return store, np.concatenate(parts)


@pytest.mark.parametrize("limit", [10**9, 2000, 0], ids=["memory", "spilled", "file"])
def test_what_goes_in_comes_out(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks_module, "MEMORY_BYTES", limit)
    store, every = filled(tmp_path)
    rows = np.random.default_rng(1).integers(0, len(every), 700)
    np.testing.assert_array_equal(store.take(rows), every[rows])
    # more may follow after a look
    store.append(every[:2])
    every = np.concatenate([every, every[:2]])
    np.testing.assert_array_equal(store.take(np.array([len(every) - 1, 0])), every[[-1, 0]])
    kept = store.in_order(rows)
    np.testing.assert_array_equal(kept, every[rows])
    release_pages(kept)
    np.testing.assert_array_equal(kept, every[rows])
    assert list(tmp_path.iterdir()) == []


def test_many_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks_module, "MEMORY_BYTES", 1000)
    store, every = filled(tmp_path)
    base: object = store.in_order(np.arange(len(every)))
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap) or isinstance(getattr(base, "obj", None), mmap.mmap)


def test_without_masks_there_is_nothing(tmp_path: Path) -> None:
    assert MaskStore(tmp_path).in_order(np.zeros(0, np.int64)).shape == (0, 28, 28)


def test_one_size_of_mask_a_store(tmp_path: Path) -> None:
    store, _ = filled(tmp_path)
    with pytest.raises(ValueError, match="after masks"):
        store.append(np.zeros((1, 8, 8), np.uint8))


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks_module, "MEMORY_BYTES", 0)

    def no_space(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", no_space)
    with pytest.raises(OutputError, match="Free some space"):
        filled(tmp_path)
