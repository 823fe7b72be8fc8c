"""What is kept of a bench that was stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dinomask.compress.bench.units import Units

if TYPE_CHECKING:
    from pathlib import Path


def test_the_same_bench_goes_on_and_another_begins_anew(tmp_path: Path) -> None:
    units = Units(tmp_path, {"images": ["a"]})
    assert units.get("round-0") is None
    units.put("round-0", {"0": 1.5})
    np.savez(units.labels_path(1, 0), labels_yx=np.eye(3, dtype=np.int32))
    again = Units(tmp_path, {"images": ["a"]})
    assert again.get("round-0") == {"0": 1.5}
    assert np.array_equal(again.labels(1, 0), np.eye(3))
    other = Units(tmp_path, {"images": ["b"]})
    assert other.get("round-0") is None
    assert not other.labels_path(1, 0).exists()


def test_a_torn_file_is_measured_again(tmp_path: Path) -> None:
    units = Units(tmp_path, {})
    units.put("image-3", {})
    (tmp_path / "units" / "image-3.json").write_text('{"0": {"sec')
    assert units.get("image-3") is None
