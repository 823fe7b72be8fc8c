"""Splits that are drawn: groups whole, shares right, always the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.errors import DataError, SettingsError
from dinomask.train.datasets import Sample, describe_sources, find_samples
from dinomask.train.splits import split_by_group
from tests.train.coco_scenes import write_coco
from tests.train.scenes import disc_labels, write_folder

if TYPE_CHECKING:
    import random


def samples_of(groups: list[str | None]) -> list[Sample]:
    return [
        Sample(f"scene{i}", Path("x.png"), Path("y.png"), "all", "fluo", "discs", group)
        for i, group in enumerate(groups)
    ]


any_groups = st.lists(st.none() | st.sampled_from("abcdefgh"), min_size=1, max_size=60)
any_seed = st.integers(0, 2**31)


@given(any_groups, any_seed)
def test_every_image_once_and_no_group_in_two(groups: list[str | None], seed: int) -> None:
    samples = samples_of(groups)
    split = split_by_group(samples, seed=seed)
    assert [s.name for s in split] == [s.name for s in samples]
    splits_of = defaultdict(set)
    for sample in split:
        splits_of[sample.group or sample.name].add(sample.split)
    assert all(len(found) == 1 for found in splits_of.values())
    assert {s.split for s in split} <= {"train", "val"}
    assert len({s.split for s in split}) == min(2, len(splits_of))


@given(any_groups, any_seed)
def test_shares_are_right_within_a_group(groups: list[str | None], seed: int) -> None:
    split = split_by_group(samples_of(groups), {"train": 0.8, "val": 0.2}, seed)
    largest = max(Counter(s.group or s.name for s in split).values())
    n_val = sum(s.split == "val" for s in split)
    assert abs(n_val - 0.2 * len(split)) <= largest


@given(any_groups, any_seed, st.randoms())
def test_the_order_of_the_images_does_not_matter(
    groups: list[str | None], seed: int, chance: random.Random
) -> None:
    samples = samples_of(groups)
    expected = {s.name: s.split for s in split_by_group(samples, seed=seed)}
    chance.shuffle(samples)
    assert {s.name: s.split for s in split_by_group(samples, seed=seed)} == expected


def test_seeds_draw_different_splits_and_processes_the_same() -> None:
    samples = samples_of([None] * 30)
    drawn = {tuple(s.split for s in split_by_group(samples, seed=seed)) for seed in range(8)}
    assert len(drawn) == 8
    script = (
        "from pathlib import Path\n"
        "from dinomask.train.samples import Sample\n"
        "from dinomask.train.splits import split_by_group\n"
        "x = Path('x.png')\n"
        "samples = [Sample(f'scene{i}', x, x, 'all', 'fluo', 'discs') for i in range(30)]\n"
        "print(*(s.split for s in split_by_group(samples)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "1"},
    )
    assert done.stdout.split() == [s.split for s in split_by_group(samples)]


def test_three_splits() -> None:
    split = split_by_group(samples_of([None] * 40), {"train": 2, "val": 1, "test": 1})
    assert Counter(s.split for s in split) == {"train": 20, "val": 10, "test": 10}


@pytest.mark.parametrize("fractions", [{}, {"train": 0.8, "val": 0.0}, {"train": float("nan")}])
def test_shares_that_are_none(fractions: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="positive share"):
        split_by_group(samples_of([None]), fractions)


def test_a_folder_without_splits_is_split_by_group(tmp_path: Path) -> None:
    lines = ["name,group", *(f"scene{i},dish{i // 3}" for i in range(15))]
    folder = write_folder(tmp_path / "discs", 15, lines)
    train, val = find_samples([folder], "train"), find_samples([folder], "val")
    assert (len(train), len(val)) == (12, 3)
    assert {s.split for s in train} == {"train"}
    assert not {s.group for s in train} & {s.group for s in val}
    assert len(find_samples([folder])) == 15
    assert describe_sources([folder], "val")[0]["images"] == "3"
    with pytest.raises(DataError, match=r"index\.csv"):
        find_samples([folder], "test")


def test_a_coco_file_without_splits_is_split_by_image(tmp_path: Path) -> None:
    file = write_coco(tmp_path / "a.json", {f"{i}.png": disc_labels(2) for i in range(10)})
    train, val = find_samples([file], "train"), find_samples([file], "val")
    assert (len(train), len(val)) == (8, 2)
    assert not {s.name for s in train} & {s.name for s in val}


def test_one_group_can_not_be_split(tmp_path: Path) -> None:
    lines = ["name,group", "scene0,dish", "scene1,dish"]
    folder = write_folder(tmp_path / "discs", 2, lines)
    assert len(find_samples([folder], "train")) == 2
    with pytest.raises(DataError, match="one group"):
        find_samples([folder], "val")


def test_named_splits_are_kept_as_they_are(tmp_path: Path) -> None:
    lines = ["name,split,group", "scene0,train,a", "scene1,val,a", "scene2,val,b"]
    folder = write_folder(tmp_path / "discs", 3, lines)
    assert [s.name for s in find_samples([folder], "val")] == ["scene1", "scene2"]
