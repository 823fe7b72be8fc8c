"""Ids and their places in label images."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dinomask.measure.overlaps import ids_of

LABELS = st.sampled_from([np.uint8, np.int32, np.int64, np.uint32, np.uint64]).flatmap(
    lambda dtype: arrays(
        dtype,
        array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6),
        # few pixels and a high id take the other way
        elements=st.integers(0, 9) | st.integers(0, int(np.iinfo(dtype).max)),
    )
)


@given(LABELS)
def test_ids_and_places_are_those_of_unique(labels: np.ndarray) -> None:
    ids, places = ids_of(labels)
    expected, inverse = np.unique(labels, return_inverse=True)
    assert ids.dtype == labels.dtype
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(places, inverse.reshape(labels.shape))
