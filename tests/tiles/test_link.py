from __future__ import annotations

import dataclasses
import itertools
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dinomask.tiles.link import Extents, PlaneLinker, count_overlaps, match_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dinomask.instances import Array
    from dinomask.tiles.plan import Box


@dataclasses.dataclass
class Plane:
    """A label image cut into windows of 40 px."""

    labels_yx: Array

    @property
    def n_labels(self) -> int:
        return int(self.labels_yx.max(initial=0))

    @property
    def shape_yx(self) -> tuple[int, int]:
        return self.labels_yx.shape  # type: ignore[return-value]

    def windows(self) -> Iterator[tuple[Box, Array]]:
        height, width = self.labels_yx.shape
        for y in range(0, height, 40):
            for x in range(0, width, 40):
                box = (y, x, min(y + 40, height), min(x + 40, width))
                yield box, self.labels_yx[box[0] : box[2], box[1] : box[3]]


def link(planes: Iterable[Array], iou: float = 0.3, bridge: bool = False) -> list[Array]:
    linker = PlaneLinker(iou, bridge)
    return [linker.add(Plane(labels))[labels] for labels in planes]


def relabelled(labels_yx: Array, rng: np.random.Generator) -> Array:
    """The same regions under other numbers, with gaps."""
    n = int(labels_yx.max(initial=0))
    lookup = np.concatenate([[0], rng.permutation(2 * n)[:n] + 1]).astype(np.int64)
    return lookup[labels_yx]


def same_partition(a: Array, b: Array) -> bool:
    """Whether two label images show the same regions, whatever the numbers."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def planted_balls(seed: int, n_z: int, pitch_px: float) -> Array:
    """Ellipsoids in a volume of n_z x 90 x 110 pixels; nearer ones win, so neighbours touch."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[:n_z, :90, :110]
    best, labels = np.ones((n_z, 90, 110)), np.zeros((n_z, 90, 110), np.int64)
    lattice = np.stack(
        np.meshgrid(np.arange(12, 85, pitch_px), np.arange(12, 105, pitch_px), indexing="ij"), -1
    ).reshape(-1, 2)
    for label, (cy, cx) in enumerate(lattice + rng.uniform(-2, 2, lattice.shape), start=1):
        cz, rz, r = rng.uniform(0, n_z), rng.uniform(5, 9), rng.uniform(9, 11)
        distance = ((z - cz) / rz) ** 2 + ((y - cy) / r) ** 2 + ((x - cx) / r) ** 2
        wins = distance < best
        best[wins], labels[wins] = distance[wins], label
    return labels


def largest_jump(labels_zyx: Array) -> float:
    """The lowest IoU of one object's sections in neighbouring planes."""
    found = [1.0]
    for a, b in itertools.pairwise(labels_zyx):
        for label in np.intersect1d(a[a > 0], b[b > 0]):
            found.append(
                float(((a == label) & (b == label)).sum() / ((a == label) | (b == label)).sum())
            )
    return min(found)


def closest_others(labels_zyx: Array) -> float:
    """The highest IoU of sections of two different objects in neighbouring planes."""
    found = [0.0]
    for a, b in itertools.pairwise(labels_zyx):
        for one, other in {*zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)}:
            if one and other and one != other:
                found.append(
                    float(((a == one) & (b == other)).sum() / ((a == one) | (b == other)).sum())
                )
    return max(found)


@given(
    seed=st.integers(0, 10**6),
    n_z=st.integers(1, 14),
    pitch_px=st.sampled_from([16.0, 21.0, 27.0]),
)
def test_planted_balls_are_put_together_again(seed: int, n_z: int, pitch_px: float) -> None:
    planted = planted_balls(seed, n_z, pitch_px)
    rng = np.random.default_rng(seed)
    # sections that shrink faster than the threshold are two objects, by definition
    threshold = min(0.4, 0.9 * largest_jump(planted))
    # and where one begins right where another ends, nothing tells them apart
    assume(closest_others(planted) < threshold)
    found = np.array(link([relabelled(plane, rng) for plane in planted], threshold))
    assert same_partition(found, planted)


@given(seed=st.integers(0, 10**6), n_t=st.integers(2, 8))
def test_planted_tracks_of_moving_cells_are_followed(seed: int, n_t: int) -> None:
    rng = np.random.default_rng(seed)
    centres = np.stack(np.meshgrid([20, 50, 80], [20, 50, 80, 110], indexing="ij"), -1)
    centres = centres.reshape(-1, 2).astype(float)
    born, gone = rng.integers(0, n_t, len(centres)), rng.integers(0, n_t, len(centres))
    y, x = np.mgrid[:100, :130]
    movie = np.zeros((n_t, 100, 130), np.int64)
    for t in range(n_t):
        for i, (cy, cx) in enumerate(centres):
            if born[i] <= t <= max(gone[i], born[i]):
                movie[t][np.hypot(y - cy, x - cx) < 10] = i + 1
        centres += rng.uniform(-2, 2, centres.shape)
    found = np.array(link([relabelled(frame, rng) for frame in movie], 0.3))
    assert same_partition(found, movie)


@given(seed=st.integers(0, 10**6), iou=st.sampled_from([0.05, 0.2, 0.5, 0.8]), bridge=st.booleans())
def test_the_objects_do_not_depend_on_the_numbers_of_a_plane(
    seed: int, iou: float, bridge: bool
) -> None:
    rng = np.random.default_rng(seed)
    # a coarse mosaic, full of ties
    planes = [np.kron(rng.integers(0, 4, (4, 5)), np.ones((6, 6), int)) for _ in range(5)]
    once = np.array(link(planes, iou, bridge))
    again = np.array(link([relabelled(p, rng) for p in planes], iou, bridge))
    assert same_partition(once, again)
    for labels, objects in zip(planes, once, strict=True):
        # of one plane no two regions become one object, and none is lost
        assert same_partition(labels, objects)
    assert set(np.unique(once)) - {0} == set(range(1, int(once.max()) + 1))


def test_touching_objects_stay_apart_however_low_the_threshold() -> None:
    plane = np.zeros((20, 40), int)
    plane[:, :20], plane[:, 20:] = 1, 2
    shifted = np.roll(plane, 8, axis=1)
    shifted[:, :8] = 0
    found = link([plane, shifted], 0.01)
    assert same_partition(found[0], plane)
    assert found[1][0, 15] == found[0][0, 0]
    assert found[1][0, 39] == found[0][0, 39]


@pytest.mark.parametrize(("iou", "linked"), [(0.5, True), (0.501, False)])
def test_the_threshold_is_reached_by_equality(iou: float, linked: bool) -> None:
    a, b = np.zeros((4, 9), int), np.zeros((4, 9), int)
    a[:, :3], b[:, 1:4] = 7, 3  # 8 of 16 pixels
    first, second = link([a, b], iou)
    assert bool(first.max() == second.max()) is linked


def test_a_division_keeps_one_daughter_and_a_merger_one_mother() -> None:
    one, two = np.zeros((10, 20), int), np.zeros((10, 20), int)
    one[:, :20] = 5
    two[:, :12], two[:, 12:] = 8, 9
    mother, daughters, again = link([one, two, one], 0.3)
    assert daughters[0, 0] == mother[0, 0] != daughters[0, 19]
    assert again[0, 0] == mother[0, 0]


def test_equal_partners_are_told_apart_by_place() -> None:
    one, two = np.ones((10, 20), int), np.ones((10, 20), int)
    for left, right in ((1, 2), (2, 1)):
        two[:, :10], two[:, 10:] = left, right
        mother, daughters = link([one, two], 0.3)
        assert daughters[0, 0] == mother[0, 0] != daughters[0, 19]


@pytest.mark.parametrize("n_missing", [0, 1, 2])
@pytest.mark.parametrize("bridge", [False, True])
def test_one_missing_plane_is_bridged_and_two_are_not(n_missing: int, bridge: bool) -> None:
    cell, other = np.zeros((30, 60), int), np.zeros((30, 60), int)
    cell[5:20, 5:20] = cell[5:20, 40:55] = 1
    cell[5:20, 40:55] = 2
    # the second cell is there all the time
    other[5:20, 40:55] = 4
    found = link([cell, *[other] * n_missing, cell], 0.3, bridge)
    assert len({int(plane[10, 50]) for plane in found}) == 1
    bridged = n_missing == 0 or (bridge and n_missing == 1)
    assert bool(found[0][10, 10] == found[-1][10, 10]) is bridged


def test_a_neighbour_is_preferred_to_a_bridge() -> None:
    plane = np.zeros((10, 20), int)
    plane[:, 5:15] = 1
    gap = np.zeros_like(plane)
    first, _, third, fourth = link([plane, gap, plane, plane], 0.3, bridge=True)
    assert first.max() == third.max() == fourth.max()
    linker = PlaneLinker(0.3, bridge=True)
    for labels in (plane, gap):
        linker.add(Plane(labels))
    linker.restart()
    assert linker.add(Plane(plane))[1] == 2


def test_overlaps_and_extents_by_hand() -> None:
    a, b = Plane(np.array([[1, 1, 0], [3, 1, 0]])), Plane(np.array([[2, 2, 2], [2, 0, 1]]))
    pairs = count_overlaps(a, b)
    assert [p.tolist() for p in pairs] == [[1, 3], [2, 2], [2, 1]]
    extents = Extents.of(a)
    assert extents.areas_px.tolist() == [2, 3, 0, 1]
    assert extents.first_px[[1, 3]].tolist() == [0, 3]
    # IoU 2 / 5 and 1 / 4
    assert [m.tolist() for m in match_labels(pairs, extents, Extents.of(b), 0.4)] == [[1], [2]]
    assert [m.tolist() for m in match_labels(pairs, extents, Extents.of(b), 0.41)] == [[], []]


def test_empty_planes_link_nothing() -> None:
    empty = np.zeros((8, 8), int)
    linker = PlaneLinker(0.5, bridge=True)
    for _ in range(3):
        assert linker.add(Plane(empty)).tolist() == [0]
    assert linker.n_objects == 0


def test_memory_does_not_grow_with_the_planes() -> None:
    def peak(n_planes: int) -> int:
        plane = planted_balls(1, 1, 16.0)[0]
        linker = PlaneLinker(0.3, bridge=True)
        tracemalloc.start()
        for _ in range(n_planes):
            linker.add(Plane(plane.copy()))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(3)
    assert peak(60) < 1.1 * peak(5)
