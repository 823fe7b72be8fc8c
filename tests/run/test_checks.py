"""What a run says about its result."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dinomask.config import DetectConfig, SegmentConfig
from dinomask.run.checks import ENOUGH_OBJECTS, TELLING_RATIO, run_findings


def table_of(diameters_px: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"area_px": np.pi / 4 * np.square(diameters_px)})


def said(diameters_px: list[float], config: SegmentConfig | None = None) -> str:
    findings = run_findings(config or SegmentConfig(), 20.0, table_of(diameters_px), [])
    return " | ".join(f"{f.severity}: {f.what} {f.remedy}" for f in findings)


def test_objects_of_very_different_sizes_are_told_with_what_finds_more() -> None:
    half = ENOUGH_OBJECTS // 2
    mixed = [10.0] * half + [1.1 * TELLING_RATIO * 10] * half
    assert "from 10 to 44 px" in said(mixed)
    assert "--sizes mixed" in said(mixed)
    assert said([10.0] * half + [0.9 * TELLING_RATIO * 10] * half) == ""
    # a few can't tell, and what nothing is seen of has no size
    assert said(mixed[1:-1]) == ""
    assert said([0.0] * half + [10.0] * ENOUGH_OBJECTS) == ""
    looked = SegmentConfig(detect=DetectConfig(tta_scales=(0.5,)))
    assert said(mixed, looked) == ""


@pytest.mark.parametrize(("diameter_px", "word"), [(None, "size"), (20.0, "20 px")])
def test_an_empty_result_is_a_warning(diameter_px: float | None, word: str) -> None:
    (finding,) = run_findings(SegmentConfig(), diameter_px, table_of([]), [])
    assert finding.severity == "warning"
    assert word in finding.what
    (failed,) = run_findings(SegmentConfig(), 20.0, table_of([20.0]), ["broken"])
    assert "1 tiles failed" in failed.what
