"""Clicks on generated nuclei, answered by the bundled model."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from dinomask.adapt.candidates import EDGE_FIT, click_fit, distinct_sizes
from dinomask.adapt.events import Piece
from dinomask.adapt.prompt import NEXT_SCALE, Prompter
from dinomask.config import SegmentConfig, TileConfig
from dinomask.errors import InputError
from dinomask.image import fit_normaliser, open_image
from dinomask.run.predictor import Predictor

NUCLEUS_PX = 26.0
SIDE_PX = 256


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(SegmentConfig(threads=1, device="cpu"))


@pytest.fixture(scope="module")
def image(sample_nuclei):
    return open_image(tifffile.imread(sample_nuclei)[:SIDE_PX, :SIDE_PX])


@pytest.fixture(scope="module")
def truth_yx(sample_nuclei_labels):
    return tifffile.imread(sample_nuclei_labels)[:SIDE_PX, :SIDE_PX]


@pytest.fixture(scope="module")
def prompter(predictor, image):
    return _prompter(predictor, image)


def _prompter(predictor, image, tiles=None, **options):
    scale = predictor.target_diameter_px / NUCLEUS_PX
    return Prompter(predictor, image, fit_normaliser(image), scale, tiles, **options)


def _whole_nuclei(truth_yx):
    """Nuclei that the image's edge doesn't cut, of the usual size."""
    inner = [
        region
        for region in regionprops(truth_yx)
        if min(region.bbox[:2]) > 0 and max(region.bbox[2:]) < SIDE_PX and region.area > 200
    ]
    assert len(inner) > 12
    return inner


def _centre(region):
    y, x = region.centroid
    return y + 0.5, x + 0.5


def _full(proposal):
    mask_yx = np.zeros((SIDE_PX, SIDE_PX), bool)
    y0, x0, y1, x1 = proposal.window_yxyx_px
    mask_yx[y0:y1, x0:x1] = proposal.mask_yx
    return mask_yx


def _iou(proposal, mask_yx):
    found = _full(proposal)
    return (found & mask_yx).sum() / (found | mask_yx).sum()


def _reader(labels_yx):
    return lambda window: labels_yx[window[0] : window[2], window[1] : window[3]]


def test_a_click_on_a_nucleus_proposes_it(prompter, truth_yx):
    ious = [
        _iou(prompter.propose(_centre(region)), truth_yx == region.label)
        for region in _whole_nuclei(truth_yx)
    ]
    assert np.median(ious) > 0.8
    assert np.mean(np.array(ious) > 0.5) > 0.85


def test_ranks_are_clearly_different_sizes_and_begin_again(prompter, truth_yx):
    point = _centre(_whole_nuclei(truth_yx)[0])
    first = prompter.propose(point)
    assert first.n_ranks >= 3
    every = [prompter.propose(point, rank) for rank in range(first.n_ranks)]
    assert [p.rank for p in every] == list(range(first.n_ranks))
    areas = np.sort([p.mask_yx.sum() for p in every])
    assert (areas[1:] / areas[:-1]).min() >= NEXT_SCALE - 1e-9
    again = prompter.propose(point, first.n_ranks)
    np.testing.assert_array_equal(_full(again), _full(first))


def test_a_proposal_is_tight_and_in_one_piece(prompter, truth_yx):
    for region in _whole_nuclei(truth_yx)[:5]:
        proposal = prompter.propose(_centre(region))
        assert proposal.mask_yx.any(axis=0).all()
        assert proposal.mask_yx.any(axis=1).all()
        assert label(proposal.mask_yx, connectivity=1).max() == 1


def test_pixels_of_other_objects_are_cut_away(prompter, truth_yx):
    region = _whole_nuclei(truth_yx)[1]
    y, x = (round(v) for v in region.centroid)
    labels_yx = np.zeros_like(truth_yx)
    labels_yx[:, x + 3 :] = 9
    free = prompter.propose(_centre(region))
    assert _full(free)[:, x + 3 :].any()
    cut = prompter.propose(_centre(region), labels=_reader(labels_yx))
    assert not _full(cut)[labels_yx > 0].any()
    assert _full(cut)[y, x]


def test_what_the_user_deleted_is_not_proposed_again(prompter, truth_yx):
    for region in _whole_nuclei(truth_yx)[:5]:
        first = prompter.propose(_centre(region))
        deleted = Piece(1, first.corner_yx_px, first.mask_yx)
        other = prompter.propose(_centre(region), refuted=[deleted])
        assert _iou(other, _full(first)) < 0.8


def test_a_box_proposes_what_it_holds(prompter, truth_yx):
    ious = [
        _iou(prompter.propose_box(region.bbox), truth_yx == region.label)
        for region in _whole_nuclei(truth_yx)
    ]
    assert np.median(ious) > 0.8


def test_features_are_kept_within_their_memory(predictor, image, truth_yx):
    tiles = TileConfig(tile_px=224)
    prompter = _prompter(predictor, image, tiles, memory_mb=0)
    near, far = (30.0, 30.0), (230.0, 230.0)
    assert not prompter.ready(near)
    prompter.prepare(near)
    one_mb = prompter.memory_mb
    assert prompter.ready(near)
    assert one_mb > 0.5
    prompter.prepare(far)
    assert prompter.ready(far)
    assert not prompter.ready(near)
    assert prompter.memory_mb == one_mb
    roomy = _prompter(predictor, image, tiles, memory_mb=2.5 * one_mb)
    for point in (near, far):
        roomy.prepare(point)
    assert roomy.ready(near)
    assert roomy.ready(far)


def test_tiles_agree_on_an_object(predictor, image, prompter, truth_yx):
    small = _prompter(predictor, image, TileConfig(tile_px=224))
    assert len(small.plan) > 1
    agreement = [
        _iou(small.propose(_centre(region)), _full(prompter.propose(_centre(region))))
        for region in _whole_nuclei(truth_yx)[:8]
    ]
    assert np.median(agreement) > 0.9


def test_points_beside_the_image_and_boxes_without_area_are_refused(prompter):
    for point in ((-1.0, 5.0), (5.0, SIDE_PX + 0.0)):
        with pytest.raises(InputError, match="Click on the image"):
            prompter.propose(point)
    with pytest.raises(InputError, match="Drag a box"):
        prompter.propose_box((20, 20, 20, 40))


def test_where_all_is_taken_there_is_nothing_to_propose(prompter):
    with pytest.raises(InputError, match="nothing at the point 60, 60"):
        prompter.propose((60.0, 60.0), labels=_reader(np.ones((SIDE_PX, SIDE_PX), int)))


@given(
    corner=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    size=st.tuples(st.floats(1, 80), st.floats(1, 80)),
    share=st.tuples(st.floats(-0.5, 1.5), st.floats(-0.5, 1.5)),
)
def test_a_click_fits_best_in_the_middle_and_not_at_all_outside(corner, size, share):
    box = torch.tensor([[*corner, corner[0] + size[0], corner[1] + size[1]]])
    middle = (box[:, :2] + box[:, 2:]) / 2
    assert click_fit(box, middle[0]).item() == pytest.approx(1, abs=0.01)
    point = torch.tensor([c + s * f for c, s, f in zip(corner, size, share, strict=True)])
    fit = click_fit(box, point).item()
    if all(0.001 < f < 0.999 for f in share):
        assert EDGE_FIT <= fit <= 1
    elif any(f < -0.001 or f > 1.001 for f in share):
        assert fit == 0


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_distinct_sizes_keep_the_best_and_all_that_differ(areas):
    chosen = distinct_sizes(areas, 1.4)
    positive = [i for i, area in enumerate(areas) if area > 0]
    assert chosen[:1] == positive[:1]
    logs = np.log([areas[i] for i in chosen])
    assert all(abs(a - b) >= np.log(1.4) - 1e-9 for k, a in enumerate(logs) for b in logs[:k])
    for i in set(positive) - set(chosen):
        assert any(abs(np.log(areas[i]) - log) < np.log(1.4) for log in logs)
