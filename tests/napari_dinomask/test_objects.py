"""The table behind the map of cells: known by their labels, whatever is deleted or sorted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.config import ClusterConfig, MapConfig, SegmentConfig
from dinomask.errors import CancelledError, ExplainError
from dinomask.explain.embedding import fit_map
from dinomask.explain.objects import ObjectFeatures
from dinomask.image.source import open_image
from napari_dinomask.exploring import Look, group, lay_out
from napari_dinomask.network import network
from napari_dinomask.objects import ALIKE, CLASS, Objects, axis_titles

IDS = np.array([3, 7, 8, 12, 20, 21, 40, 41])


def objects_of(ids: np.ndarray = IDS, **columns: object) -> Objects:
    """Cells of two kinds, every second one; without the network."""
    kind = np.arange(len(ids)) % 2
    rng = np.random.default_rng(0)
    vectors = np.eye(2, 6)[kind] + 0.1 * rng.normal(size=(len(ids), 6))
    boxes = {"y0": ids, "x0": 2 * ids, "y1": ids + 5, "x1": 2 * ids + 9}
    table = pd.DataFrame({"image": "a", "id": ids, **boxes, "area_px": 10 * ids, **columns})
    objects = Objects(ObjectFeatures(table, {11: vectors.astype(np.float32)}))
    objects.map = fit_map(objects.features, MapConfig(method="pca"))
    return objects


@given(gone=st.sets(st.sampled_from(IDS.tolist())))
def test_deleted_cells_leave_the_map_and_come_back(gone: set[int]) -> None:
    objects = objects_of()
    assert objects.map is not None
    place = dict(zip(IDS.tolist(), objects.map.positions.tolist(), strict=True))
    there = [i for i in IDS.tolist() if i not in gone]
    assert objects.take_note(dict.fromkeys(gone), {}) == bool(gone)
    for expected in (there, IDS.tolist()):
        cloud = objects.cloud()
        assert cloud.keys.tolist() == expected == objects.table["id"].tolist()
        assert len(objects) == len(expected)
        assert np.allclose(cloud.points_xy, [place[i] for i in expected] or np.empty((0, 2)))
        assert len(objects.colouring("area_px").codes) == len(expected)
        objects.take_note({}, {})


def test_columns_go_with_the_cells_not_with_the_rows() -> None:
    objects = objects_of()
    objects.set_column("cluster", np.array([20, 3]), np.array([1.0, 0.0]))
    objects.take_note({7: None, 3: None}, {})
    table = objects.table.set_index("id")
    assert table.loc[20, "cluster"] == 1
    assert table["cluster"].isna().sum() == len(table) - 1
    assert "cluster" in objects.columns
    # where a cell lies tells nothing, and one image is no class
    assert not {"image", "id", "y0", "x1"} & set(objects.columns)


def test_classes_by_correction_go_over_those_of_the_run() -> None:
    objects = objects_of(**{CLASS: [0, 0, 1, 1, 0, 0, 0, 0]})
    assert objects.classes_of([3, 8, 99]) == {3: 0, 8: 1}
    assert objects.take_note({3: object()}, {3: 2})
    assert objects.classes_of([3, 8]) == {3: 2, 8: 1}
    assert not objects.take_note({3: object()}, {3: 2})
    objects.take_note({}, {})
    assert objects.classes_of([3, 8]) == {3: 0, 8: 1}


def test_without_any_class_there_is_no_such_column() -> None:
    objects = objects_of()
    assert CLASS not in objects.columns
    objects.take_note({3: object()}, {3: 1})
    assert CLASS in objects.columns
    assert objects.colouring(CLASS).categories[-1].name == "none"
    objects.take_note({}, {})
    assert CLASS not in objects.columns


def test_cells_that_were_drawn_since_are_counted() -> None:
    objects = objects_of()
    objects.take_note({3: object(), 99: object(), 100: None}, {})
    assert objects.n_others == 1


def test_the_likest_cells_come_first() -> None:
    objects = objects_of()
    objects.take_note({8: None}, {})
    table = objects.rank(np.array([3]))
    kinds = [IDS.tolist().index(i) % 2 for i in table["id"]]
    assert kinds == sorted(kinds)
    assert table["id"].iloc[0] == 3
    assert 8 not in set(table["id"])
    assert ALIKE in objects.columns
    with pytest.raises(ExplainError):
        objects.rank(np.array([], np.int64))


def test_boxes_of_cells() -> None:
    objects = objects_of()
    assert objects.box_of(12) == (12, 24, 17, 33)
    assert objects.box_of(13) is None


def test_colours_of_nothing_and_of_a_column_that_is_gone() -> None:
    objects = objects_of()
    assert objects.colouring("").title == ""
    assert len(objects.colouring("cluster").codes) == len(IDS)


def test_axes_say_what_they_are() -> None:
    objects = objects_of()
    assert objects.map is not None
    assert axis_titles(objects.map) == ("PC 1", "PC 2")


def test_groups_are_found_among_the_cells_that_are_there() -> None:
    objects = objects_of()
    objects.take_note({7: None}, {})
    keys, groups = group(objects, ClusterConfig(n_clusters=2), lambda _: None)
    assert keys.tolist() == [i for i in IDS.tolist() if i != 7]
    by_kind = [set(groups[[IDS.tolist().index(k) % 2 == kind for k in keys]]) for kind in (0, 1)]
    assert all(len(found) == 1 for found in by_kind)
    assert by_kind[0] != by_kind[1]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_cells_are_mapped_all_the_same(n: int) -> None:
    objects = lay_out(objects_of(IDS[:n]), MapConfig(method="umap"), lambda _: None)
    assert np.isfinite(objects.cloud().points_xy).all()
    assert len(objects.cloud()) == n
    assert objects.map is not None
    assert objects.map.notes


def test_cells_that_are_all_alike_are_refused_in_words() -> None:
    objects = objects_of()
    same = {11: np.ones((len(IDS), 6), np.float32)}
    alike = Objects(ObjectFeatures(objects.features.table, same))
    with pytest.raises(ExplainError):
        lay_out(alike, MapConfig(method="pca"), lambda _: None)


def test_no_cell_is_said_before_the_network_is_loaded() -> None:
    look = Look(
        lambda: open_image(np.zeros((40, 40), np.uint8)),
        np.zeros((40, 40), np.int32),
        pd.DataFrame({"id": []}),
        SegmentConfig(),
    )
    with pytest.raises(ExplainError, match="at least one cell"):
        look.run(lambda _: None)


def test_a_cancelled_wait_leaves_the_network_to_others() -> None:
    look = Look(
        lambda: open_image(np.zeros((40, 40), np.uint8)),
        np.ones((40, 40), np.int32),
        pd.DataFrame({"id": [1]}),
        SegmentConfig(),
    )

    def report(progress: object) -> None:
        if getattr(progress, "stage", "") == "wait":
            raise CancelledError(expected="a", got="b", remedy="c")

    with network.turn:
        with pytest.raises(CancelledError):
            look.run(report)
        assert network.turn.locked()
    assert not network.turn.locked()
