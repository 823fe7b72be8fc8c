"""Tiles that disagree by a vector of their own are brought to agree where they overlap."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from dinomask.config import SegmentConfig, TileConfig
from dinomask.explain.alignment import Alignment
from dinomask.explain.patches import PatchPlan
from dinomask.explain.tokens import TokenSource
from dinomask.image import open_image
from dinomask.run.predictor import Predictor


def field(shape_yx: tuple[int, int], cells: int = 1, width: int = 5) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(shape_yx[0] * cells, shape_yx[1] * cells, width))


@pytest.mark.parametrize("cells", [1, 4])
def test_planted_offsets_are_found(cells):
    plan = PatchPlan((50, 40), tile=16, halo=3)
    tokens = field(plan.shape_yx, cells)
    planted = np.random.default_rng(1).normal(size=(len(plan), 5)) * 3
    alignment = Alignment(plan)
    for i in range(len(plan)):
        y0, x0, y1, x1 = (v * cells for v in plan[i].read_yxyx)
        alignment.add(plan[i], 7, tokens[y0:y1, x0:x1] + planted[i])
    offsets = alignment.offsets(7)
    found = np.array([offsets[i] for i in range(len(plan))])
    # what all tiles share can't be told, and offsets are kept small
    left = planted + found
    assert left.std(axis=0).max() < 0.1 * planted.std(axis=0).min()


def test_tiles_that_agree_are_left_as_they_are():
    plan = PatchPlan((50, 40), tile=16, halo=3)
    tokens = field(plan.shape_yx)
    alignment = Alignment(plan)
    for i in range(len(plan)):
        y0, x0, y1, x1 = plan[i].read_yxyx
        alignment.add(plan[i], 0, tokens[y0:y1, x0:x1])
    assert max(np.abs(o).max() for o in alignment.offsets(0).values()) < 1e-12


def test_a_tile_without_neighbours_gets_nothing():
    plan = PatchPlan((50, 40), tile=16, halo=3)
    alignment = Alignment(plan)
    # the first and the last tile don't touch
    for i in (0, len(plan) - 1):
        alignment.add(plan[i], 0, np.ones((16, 16, 5)) * i)
    assert alignment.offsets(0) == {}
    assert Alignment(plan).offsets(0) == {}


def test_tiles_of_the_bundled_model_agree_better(sample_nuclei):
    config = SegmentConfig(diameter_px=26.0, threads=1, tiles=TileConfig(224, 56))
    image = open_image(tifffile.imread(sample_nuclei)[:300, :200])
    source = TokenSource.of(image, [8], config, Predictor.load(config))
    alignment = Alignment(source.plan)
    maps = {}
    for i in range(len(source.plan)):
        tile = source.plan[i]
        (tokens,) = source.seen.predictor.layer_tokens(source._read(tile)[None], [8])
        maps[i] = np.moveaxis(tokens[0], 0, 2)
        alignment.add(tile, 8, maps[i])
    offsets = alignment.offsets(8)
    apart = {True: 0.0, False: 0.0}
    for i in range(len(source.plan)):
        for j in source.plan.neighbours(i):
            here, there = (
                maps[a][slice(y0, y1), slice(x0, x1)]
                for a, b in ((i, j), (j, i))
                for y0, x0, y1, x1 in [alignment.shared_window(source.plan[a], source.plan[b], 1)]
            )
            apart[False] += float(((here - there) ** 2).sum())
            apart[True] += float(((here + offsets[i] - there - offsets[j]) ** 2).sum())
    assert apart[True] < 0.5 * apart[False]
