"""Records of planted objects, without a network: linked, numbered and drawn."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr

from dinomask.config import PlanesConfig, TileConfig
from dinomask.errors import CancelledError
from dinomask.image import open_stack
from dinomask.run.plane_joiner import PlaneJoiner
from dinomask.tiles.ledger import Ledger
from dinomask.tiles.plan import owned, plan_tiles
from tests.tiles.scenes import disks

if TYPE_CHECKING:
    from pathlib import Path

    from dinomask.instances import Array, Instances

SIDE = 300
TILES = TileConfig(tile_px=224, halo_px=42)


def planted_sections(seed: int, n_z: int) -> tuple[list[Instances], list[Array]]:
    """Balls on a lattice, as disks in each plane, and which ball each disk is part of."""
    rng = np.random.default_rng(seed)
    centres = np.stack(np.meshgrid(*[np.arange(25, SIDE, 42)] * 2), -1).reshape(-1, 2)
    heights, radii = rng.uniform(0, n_z, len(centres)), rng.uniform(12, 15, len(centres))
    planes, members = [], []
    for z in range(n_z):
        squared = radii**2 - (2.5 * (z - heights)) ** 2
        # a section of a point is none
        here = np.flatnonzero(squared > 16)
        planes.append(disks(centres[here], 2 * np.sqrt(squared[here]), np.full(len(here), 0.9)))
        members.append(here)
    return planes, members


def joiner(
    folder: Path, planes: list[Instances], config: PlanesConfig, on_progress=None
) -> PlaneJoiner:
    stack = open_stack(np.broadcast_to(np.uint8(0), (len(planes), SIDE, SIDE)), axes="zyx")
    plan = plan_tiles((SIDE, SIDE), 1.0, TILES)
    ledger = Ledger.create(folder / "run.ledger", {}, len(planes) * len(plan))
    for z, found in enumerate(planes):
        for tile in plan:
            ledger.write(z * len(plan) + tile.index, owned(plan, tile, found))
    return PlaneJoiner(stack, plan, ledger, config, on_progress)


@pytest.mark.parametrize("seed", range(3))
def test_planted_balls_are_found_again(seed: int, tmp_path: Path) -> None:
    planes, members = planted_sections(seed, 9)
    work = joiner(tmp_path, planes, PlanesConfig(stitch_z=0.2))
    table, labels = work.render(None)
    assert labels.shape == (9, SIDE, SIDE)
    assert work.n_objects == len(np.unique(np.concatenate(members)))
    assert len(table) == sum(map(len, members))
    ball_of: dict[int, int] = {}
    for z, (found, balls) in enumerate(zip(planes, members, strict=True)):
        centres = ((found.boxes_yxyx_px[:, :2] + found.boxes_yxyx_px[:, 2:]) / 2).astype(int)
        for (y, x), ball in zip(centres, balls, strict=True):
            label = int(labels[z, y, x])
            assert label > 0
            assert ball_of.setdefault(label, int(ball)) == ball
    assert len(ball_of) == work.n_objects


def test_planes_that_are_not_linked_have_numbers_of_their_own(tmp_path: Path) -> None:
    planes, members = planted_sections(0, 4)
    table, labels = joiner(tmp_path, planes, PlanesConfig()).render(None)
    assert table["id"].tolist() == list(range(1, sum(map(len, members)) + 1))
    assert "object_id" not in table
    for row in table.itertuples():
        assert np.count_nonzero(labels[row.z] == row.id) == row.area_px
        assert not (np.delete(labels, row.z, axis=0) == row.id).any()


def test_a_plane_without_records_is_empty(tmp_path: Path) -> None:
    planes, _ = planted_sections(0, 3)
    empty = planes[0].take(np.zeros(len(planes[0]), bool))
    table, labels = joiner(
        tmp_path, [planes[0], empty, planes[0]], PlanesConfig(stitch_z=0.2)
    ).render(None)
    assert not labels[1].any()
    assert not set(table[table["z"] == 0]["id"]) & set(table[table["z"] == 2]["id"])
    bridged = PlanesConfig(stitch_z=0.2, bridge=True)
    (tmp_path / "b").mkdir()
    _, labels = joiner(tmp_path / "b", [planes[0], empty, planes[0]], bridged).render(None)
    np.testing.assert_array_equal(labels[0], labels[2])


def test_a_cancel_while_writing_leaves_nothing(tmp_path: Path) -> None:
    planes, _ = planted_sections(0, 4)

    def stop(progress) -> None:
        if progress.done == 3:
            raise CancelledError(expected="to finish", got="a cancel", remedy="Run it again.")

    work = joiner(tmp_path, planes, PlanesConfig(stitch_z=0.2), stop)
    for name in ("o.tif", "o.zarr"):
        with pytest.raises(CancelledError):
            work.render(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["run.ledger"]


def test_memory_does_not_grow_with_the_planes(tmp_path: Path) -> None:
    def peak(n_planes: int) -> int:
        folder = tmp_path / str(n_planes)
        folder.mkdir()
        planes, _ = planted_sections(0, 4)
        config = PlanesConfig(stitch_z=0.2, bridge=True)
        work = joiner(folder, [planes[z % 4] for z in range(n_planes)], config)
        tracemalloc.start()
        work.render(folder / "o.zarr")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert zarr.open_group(str(folder / "o.zarr"), mode="r")["0"].shape[0] == n_planes
        return found

    peak(3)
    few, many = peak(8), peak(48)
    # forty more label images would be 14 MB; the tables, of which pandas makes one a plane, stay
    assert many - few < 2_500_000
