"""A large image of one sample repeated: what blocks lose shows as a repeat that fares otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from large_peers import fare_alike

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repeated(sample_nuclei_labels: Path) -> np.ndarray:
    return np.tile(tifffile.imread(sample_nuclei_labels).astype(np.int32), (2, 2))


def central(labels_yx: np.ndarray) -> int:
    """Return the label of a nucleus in the middle of the sample."""
    middle = labels_yx[200:312, 200:312]
    return int(np.bincount(middle[middle > 0]).argmax())


def test_repeats_that_are_all_found_or_all_missed_fare_alike(repeated: np.ndarray) -> None:
    whole = fare_alike(repeated)
    assert (whole["repeats"], whole["found_share"], whole["otherwise_of_1000"]) == (4, 1.0, 0.0)
    missing = fare_alike(np.where(repeated == central(repeated), 0, repeated))
    assert missing["found_share"] < 1
    assert missing["otherwise_of_1000"] == 0


def test_a_nucleus_cut_in_one_repeat_fares_otherwise(repeated: np.ndarray) -> None:
    rows, columns = np.nonzero(repeated[:512, :512] == central(repeated))
    middle = int(np.median(columns))
    cut = repeated.copy()
    right = (rows[columns >= middle], columns[columns >= middle])
    cut[right] = repeated.max() + 1
    fared = fare_alike(cut)
    n_inner = round(1000 / fared["otherwise_of_1000"] / 4)
    assert fared["otherwise_of_1000"] == pytest.approx(1000 / (4 * n_inner), rel=0.01)
    assert n_inner > 80
