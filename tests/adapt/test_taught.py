"""What training takes: patches of images, what is held out, scenes at the model's scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.adapt.held_out import FEWEST, part_places
from dinomask.adapt.taught import (
    TaughtImage,
    diameter_ratio,
    diameter_spread,
    limit_images,
    limit_objects,
    typical_diameter_px,
)
from dinomask.adapt.trial import FLOOR, TrialScores, cut_scenes, score_scenes
from dinomask.instances import REFUTED, UNSUPERVISED, Instances, draw
from tests.adapt.taught_scenes import taught_discs


@given(n=st.integers(1, 60), n_images=st.integers(1, 6), seed=st.integers(0, 5))
def test_limited_objects_are_as_many_as_asked_and_whole(n: int, n_images: int, seed: int) -> None:
    whole = [taught_discs(seed=i) for i in range(n_images)]
    kept = limit_objects(whole, n, seed)
    by_name = {image.name: image for image in whole}
    assert (
        sum(image.n_objects for image in kept)
        == min(n, sum(by_name[image.name].n_objects for image in whole if image.n_objects))
        or n_images > n // 4
    )  # few objects stay in few images
    assert sum(image.n_objects for image in kept) <= n
    for image in kept:
        truth = by_name[image.name].labels_yx
        known = image.labels_yx != UNSUPERVISED
        assert np.array_equal(image.labels_yx[known], truth[known])
        for label in np.unique(image.labels_yx[image.labels_yx > 0]):
            assert np.array_equal(image.labels_yx == label, truth == label)


def test_limited_objects_bring_ground_but_no_ground_of_others() -> None:
    (patch,) = limit_objects([taught_discs(n=10, side_px=200)], 4)
    assert patch.n_objects == 4
    assert patch.reviewed_px > 0
    assert (patch.labels_yx == UNSUPERVISED).any()


def test_the_objects_of_a_limit_are_spread_over_images() -> None:
    kept = limit_objects([taught_discs(seed=i) for i in range(5)], 20)
    assert [image.n_objects for image in kept] == [4] * 5


def test_limited_images_are_drawn_by_the_seed() -> None:
    images = [taught_discs(seed=i) for i in range(6)]
    names = [[i.name for i in limit_images(images, 2, seed)] for seed in range(8)]
    assert all(len(n) == 2 for n in names)
    assert len({tuple(n) for n in names}) > 1


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=7),
    share=st.floats(0.1, 0.5),
    seed=st.integers(0, 9),
)
def test_nothing_is_learned_and_held_out(sizes: list[int], share: float, seed: int) -> None:
    images = [taught_discs(seed=i, n=n) for i, n in enumerate(sizes)]
    learned, held = part_places(images, share, seed)
    total = sum(sizes)
    if total < FEWEST:
        assert learned == images
        assert held == images
        return
    n_learned, n_held = (sum(i.n_objects for i in part) for part in (learned, held))
    assert n_learned + n_held == total
    assert n_held >= 1
    assert n_learned >= 1
    for a in learned:
        for b in held:
            if a.name == b.name:
                both = (a.labels_yx != UNSUPERVISED) & (b.labels_yx != UNSUPERVISED)
                assert not both.any()


def test_groups_are_not_parted() -> None:
    images = [taught_discs(seed=i, n=4, group=f"dish{i // 2}") for i in range(10)]
    learned, held = part_places(images, 0.2, 0)
    assert {i.group for i in learned}.isdisjoint({i.group for i in held})
    assert len(held) == 2


def test_crops_are_drawn_where_something_is_known() -> None:
    labels = np.full((300, 300), UNSUPERVISED, np.int32)
    labels[10:30, 10:30] = 1
    labels[200:220, 250:270] = REFUTED
    image = TaughtImage("sparse", np.zeros((1, 300, 300), np.uint8), False, labels)
    ready = image.annotated(typical_px=25.0)
    assert ready.centred_share == 1.0
    assert sorted(map(tuple, ready.centres_yx.tolist())) == [(20.0, 20.0), (210.0, 260.0)]
    assert ready.diameter_px == 25.0  # one object can't tell
    assert (image.n_objects, image.n_refuted, image.reviewed_px) == (1, 1, 0)


def test_typical_diameter_is_the_median_of_all_objects() -> None:
    images = [taught_discs(seed=i) for i in range(3)]
    assert typical_diameter_px(images) == pytest.approx(20, abs=1)
    assert typical_diameter_px([taught_discs(n=0)]) is None


class Oracle:
    """Finds exactly the objects of the scenes it is given, and no others."""

    def __init__(self, scenes: list, scores: tuple[float, ...] = (0.9,)) -> None:
        self.truth = {s.tile_cyx.tobytes(): s.labels_yx for s in scenes}
        self.scores = scores

    def detect(self, tile_cyx: np.ndarray, config: object) -> Instances:
        assert config.score_threshold == FLOOR
        labels = self.truth[tile_cyx.tobytes()]
        parts = []
        for k, label in enumerate(np.unique(labels[labels > 0])):
            rows, cols = np.nonzero(labels == label)
            box = np.array([[rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]], np.float32)
            y, x = (
                box[0, i] + (np.arange(56) + 0.5) / 56 * (box[0, i + 2] - box[0, i]) for i in (0, 1)
            )
            mask = (labels[y.astype(int)[:, None], x.astype(int)[None]] == label) * 255
            score = np.array([self.scores[k % len(self.scores)]], np.float32)
            parts.append(Instances(box, score, np.zeros(1, np.int32), mask[None].astype(np.uint8)))
        return Instances.concatenate(parts) if parts else Instances.empty(56)


def test_every_object_is_judged_once_and_a_perfect_model_is_perfect() -> None:
    images = [taught_discs(seed=i, n=9, side_px=220) for i in range(3)]
    scenes = cut_scenes(images, 32.0, None, most=99)
    scores = score_scenes(Oracle(scenes), scenes)
    assert scores.n_objects == 27
    assert scores.at(0.35)[0] == 1.0


def test_scenes_hide_what_is_unknown() -> None:
    patch = limit_objects([taught_discs(n=12, side_px=240)], 4)
    scenes = cut_scenes(patch, 32.0, None)
    assert sum(len(np.unique(s.labels_yx[s.labels_yx > 0])) for s in scenes) == 4


def test_doubtful_objects_count_at_low_thresholds_only() -> None:
    scenes = cut_scenes([taught_discs(n=8)], 32.0, None)
    scores = score_scenes(Oracle(scenes, (0.9, 0.4)), scenes)
    assert scores.at(0.3)[0] == 1.0
    assert scores.at(0.6)[0] == pytest.approx(0.5)


def test_threshold_moves_only_where_enough_objects_can_tell() -> None:
    ap = np.tile(np.linspace(0.5, 0.6, 10)[:, None], (1, 10))
    thresholds = tuple(np.round(np.arange(0.2, 0.7, 0.05), 2).tolist())
    few, many = (TrialScores(ap, thresholds, n).best_threshold(0.35) for n in (10, 10_000))
    assert few == 0.35
    assert many > 0.55


def test_spread_between_images_is_told_from_chance() -> None:
    alike = [taught_discs(seed=i) for i in range(4)]
    assert diameter_spread(alike) == pytest.approx(0, abs=0.01)
    larger = [
        taught_discs(
            seed=i, labels_yx=np.kron(taught_discs(seed=i).labels_yx, np.ones((k, k), np.int32))
        )
        for i, k in enumerate((1, 2, 4))
    ]
    assert diameter_spread(larger) == pytest.approx(np.std(np.log([1, 2, 4]), ddof=1), abs=0.02)
    assert diameter_spread(alike[:1]) is None


@given(st.integers(1, 5), st.integers(1, 3))
def test_sizes_are_compared_within_images(ratio: int, zoom: int) -> None:
    small = np.kron(np.eye(6, dtype=np.int32) * np.arange(1, 7), np.ones((8, 8), np.int32))
    large = np.kron(small, np.ones((ratio, ratio), np.int32))
    labels = np.zeros((len(large), 2 * len(large)), np.int32)
    labels[: len(small), : len(small)] = small
    labels[:, len(large) :] = np.where(large, large + 6, 0)
    # another magnification of the same is no other ratio
    images = [taught_discs(labels_yx=np.kron(labels, np.ones((k, k), np.int32))) for k in (1, zoom)]
    assert diameter_ratio(images) == pytest.approx(ratio, rel=0.01)
    assert diameter_ratio(images[:1]) is None


def test_the_surer_object_is_drawn_on_top() -> None:
    boxes = np.array([[0, 0, 20, 20], [0, 10, 20, 30]], np.float32)
    masks = np.full((2, 28, 28), 255, np.uint8)
    found = Instances(boxes, np.array([0.5, 0.9], np.float32), np.zeros(2, np.int32), masks)
    labels = draw(found, (20, 30))
    assert (labels[:, :10] == 1).all()
    assert (labels[:, 10:] == 2).all()
