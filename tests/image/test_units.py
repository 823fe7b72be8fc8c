from __future__ import annotations

import math

import pytest

from dinomask.image.units import length_um, size_um


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        ("µm", 1),
        ("\u03bcm", 1),
        ("\\u00B5m", 1),
        ("Microns", 1),
        ("micrometre", 1),
        ("nanometers", 1e-3),
        ("mm", 1e3),
        ("m", 1e6),
        ("Å", 1e-4),
        ("inch", 25_400),
    ],
)
def test_lengths_in_every_spelling(unit: str, um: float) -> None:
    assert length_um(2.0, unit) == pytest.approx(2 * um)


@pytest.mark.parametrize("unit", ["pixel", "", None, "reference frame", "second"])
def test_what_is_no_length_is_unknown(unit: object) -> None:
    assert length_um(2.0, unit) is None


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_sizes_that_make_no_sense_are_unknown(value: float) -> None:
    assert length_um(value, "µm") is None


def test_a_size_needs_both_sides() -> None:
    assert size_um(1, 2, "mm", "µm") == (1000, 2)
    assert size_um(1, None, "mm", "µm") is None
    assert size_um(1, 2, "pixel", "µm") is None
