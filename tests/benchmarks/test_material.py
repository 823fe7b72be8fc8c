"""Which images a comparison takes, and how they are handed to the peers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from peers.material import choose, convert, hold_out, identity, to_rgb
from peers.runner_files import read_annotated

from dinomask.errors import DataError
from dinomask.train.datasets import Sample, find_samples
from tests.train.scenes import save


def samples(**counts: int) -> list[Sample]:
    return [
        Sample(f"{m}{i}", Path(f"{m}{i}.png"), Path("l.png"), "train", m, "set")
        for m, n in counts.items()
        for i in range(n)
    ]


def test_a_limit_takes_modalities_in_turn() -> None:
    chosen = choose(samples(fluo=50, pink=2, white=5), 8)
    names = [s.modality for s in chosen]
    assert [names.count(m) for m in ("fluo", "pink", "white")] == [3, 2, 3]
    assert len({s.name for s in chosen}) == 8
    assert choose(samples(fluo=3), None) == choose(samples(fluo=3), 9) == samples(fluo=3)


def test_every_modality_is_held_out_and_none_wholly() -> None:
    every = samples(fluo=50, pink=2, lone=1)
    drawn = hold_out(every, seed=3)
    assert [sum(s.modality == m for s in drawn) for m in ("fluo", "pink", "lone")] == [5, 1, 0]
    assert drawn == hold_out(every, seed=3)
    assert drawn != hold_out(every, seed=4)
    with pytest.raises(DataError, match="hold one out"):
        hold_out(samples(a=1, b=1), seed=0)


def test_all_images_become_rgb() -> None:
    grey = np.arange(12, dtype=np.uint16).reshape(1, 3, 4)
    assert np.array_equal(to_rgb(grey, False), np.stack([grey[0]] * 3, axis=-1))
    colours = np.arange(36, dtype=np.uint8).reshape(3, 3, 4)
    assert np.array_equal(to_rgb(colours, True)[..., 2], colours[2])
    two = np.stack([grey[0], grey[0] + 2])
    mean = to_rgb(two, False)
    assert mean.dtype == np.uint16
    assert np.array_equal(mean[..., 0], grey[0] + 1)


def test_converted_images_are_read_back_as_they_were(discs: Path, tmp_path: Path) -> None:
    found = find_samples([discs], "train")
    items = convert(found, tmp_path / "converted")
    for sample, item in zip(found, items, strict=True):
        image, labels, _ = sample.read()
        converted, converted_labels = read_annotated(item)
        assert np.array_equal(converted, np.moveaxis(np.repeat(image, 3, axis=0), 0, -1))
        assert np.array_equal(converted_labels, labels)


def test_only_changed_images_are_converted_again(discs: Path, tmp_path: Path) -> None:
    found = find_samples([discs], "train")
    first = convert(found, tmp_path / "converted")
    written = {i["file"]: Path(i["file"]).stat().st_mtime_ns for i in first}
    labels = found[1].read()[1].astype(np.uint16)
    labels[labels == 1] = 0
    assert isinstance(found[1].labels, Path)
    save(found[1].labels, labels)
    second = convert(found, tmp_path / "converted")
    assert [a == b for a, b in zip(identity(first), identity(second), strict=True)] == [
        True,
        False,
        True,
        True,
    ]
    assert all(Path(f).stat().st_mtime_ns == time for f, time in written.items())
    assert read_annotated(second[1])[1].max() == labels.max()
