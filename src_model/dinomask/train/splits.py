"""Splits for data sets that come without: by group, so that no group is in two."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import defaultdict
from typing import TYPE_CHECKING

from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dinomask.train.samples import Sample

SPLIT_FRACTIONS = {"train": 0.8, "val": 0.2}
"""Shares of the images where the data set names no splits."""

SPLIT_SEED = 0

Group = tuple[str, bool, str]


def split_by_group(
    samples: Sequence[Sample],
    fractions: Mapping[str, float] = SPLIT_FRACTIONS,
    seed: int = SPLIT_SEED,
) -> list[Sample]:
    """Give every image a split; images of one group get the same.

    Groups are taken in an order drawn from the seed, each into the split that
    lacks most of its share of the images. While there are groups enough no
    split stays empty. The result depends on the names of images and groups and
    on the seed, not on the order of the images or on the machine.

    Parameters
    ----------
    samples : images without a group are groups of their own
    fractions : share of the images for each split, e.g. ``{"train": 0.8, "val": 0.2}``
    seed : draws another split

    Returns
    -------
    the samples in their order, with their split

    Raises
    ------
    SettingsError
        If the shares are not positive numbers.
    """
    if not fractions or not all(0 < f < math.inf for f in fractions.values()):
        raise SettingsError(
            expected="a positive share for each split",
            got=str(dict(fractions)),
            remedy="Use train 0.8 and val 0.2.",
        )
    members: dict[Group, int] = defaultdict(int)
    for sample in samples:
        members[_group(sample)] += 1
    order = sorted(members, key=lambda group: (_draw(group, seed), group))
    total = sum(fractions.values())
    lacking = {name: f / total * len(samples) for name, f in fractions.items()}
    empty = set(lacking)
    chosen: dict[Group, str] = {}
    for i, group in enumerate(order):
        # the last groups are for the splits that have none yet
        open_to = [n for n in lacking if n in empty or len(order) - i > len(empty)]
        name = max(open_to, key=lambda n: lacking[n])
        chosen[group] = name
        lacking[name] -= members[group]
        empty.discard(name)
    return [dataclasses.replace(s, split=chosen[_group(s)]) for s in samples]


def _group(sample: Sample) -> Group:
    return sample.dataset, sample.group is not None, sample.group or sample.name


def _draw(group: Group, seed: int) -> bytes:
    # Python's own hash differs from run to run
    return hashlib.sha256(repr((seed, *group)).encode()).digest()
