"""Rows, ids and vectors stay together, whatever is done with a table of objects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.errors import ExplainError, SettingsError
from dinomask.explain.objects import ObjectFeatures, join_table
from tests.explain.scenes import features_of, planted


def numbered(n: int, image: str = "a") -> ObjectFeatures:
    """Objects whose vector is made of their own id."""
    features = features_of(np.zeros((n, 3)), image)
    return ObjectFeatures(
        features.table, {3: np.repeat(features.ids[:, None], 3, 1).astype(np.float32)}
    )


@given(data=st.data(), n=st.integers(1, 30))
def test_ids_stay_with_their_vectors_through_filters_and_sorting(data, n):
    features = numbered(n)
    for _ in range(3):
        rows = data.draw(st.lists(st.integers(0, len(features) - 1), unique=True, min_size=1))
        features = features.take(np.array(rows))
        order = features.table.sort_values(data.draw(st.sampled_from(["area_px", "id"])))
        features = features.take(order.index.to_numpy())
        keep = np.array(
            data.draw(st.lists(st.booleans(), min_size=len(features), max_size=len(features)))
        )
        if keep.any():
            features = features.take(keep)
        assert (features.vectors()[:, 0] == features.ids).all()
        assert list(features.table.index) == list(range(len(features)))


@given(st.lists(st.integers(0, 19), unique=True))
def test_rows_are_found_by_id_in_the_order_asked_for(rows):
    features = numbered(20)
    ids = features.ids[np.array(rows, int)]
    assert features.rows_of(ids).tolist() == rows
    assert features.rows_of(np.array([1, 2])).tolist() == []


def test_images_are_told_apart():
    both = ObjectFeatures.concatenate([numbered(5, "a"), numbered(5, "b")])
    assert both.images == ("a", "b")
    same_id = both.ids[0]
    assert both.rows_of(np.array([same_id]), "a").tolist() == [0]
    assert both.rows_of(np.array([same_id]), "b").tolist() == [5]
    assert both.of_image("b").images == ("b",)
    with pytest.raises(SettingsError, match="name it"):
        both.rows_of(np.array([same_id]))
    with pytest.raises(ExplainError, match="twice"):
        ObjectFeatures.concatenate([numbered(5), numbered(2)])
    with pytest.raises(ExplainError, match="different ones"):
        ObjectFeatures.concatenate([numbered(5, "a"), planted(image="b")[0]])


def test_a_layer_that_is_not_there_is_refused():
    features = numbered(3)
    assert features.vectors().shape == features.vectors(3).shape == (3, 3)
    with pytest.raises(SettingsError, match="layers 3"):
        features.vectors(2)


def test_the_runs_table_is_joined_by_id():
    measured = pd.DataFrame({"id": [2, 5, 9], "area_px": [10, 20, 30]})
    known = pd.DataFrame({"id": [9, 2], "area_px": [31, 11], "score": [0.9, 0.2]})
    joined = join_table(measured, known)
    assert joined["id"].tolist() == [2, 5, 9]
    assert joined["area_px"].tolist() == [10, 20, 30]
    assert joined["score"].tolist()[::2] == [0.2, 0.9]
    assert np.isnan(joined["score"][1])
    for wrong in (known.rename(columns={"id": "label"}), pd.concat([known, known])):
        with pytest.raises(ExplainError, match="column id"):
            join_table(measured, wrong)


def test_a_column_is_added_to_a_copy():
    features = numbered(4)
    more = features.with_column("kind", ["x", "y", "x", "y"])
    assert more.table["kind"].tolist() == ["x", "y", "x", "y"]
    assert "kind" not in features.table
