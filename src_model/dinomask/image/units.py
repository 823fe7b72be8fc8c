"""Lengths in µm."""

from __future__ import annotations

import math

_UM = {
    "m": 1e6,
    "meter": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "pm": 1e-6,
    "picometer": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
    "in": 25_400.0,
    "inch": 25_400.0,
}


def length_um(value: float, unit: object) -> float | None:
    """Convert a length to µm.

    Parameters
    ----------
    value : the length in `unit`
    unit : a unit as OME-XML, OME-Zarr, ImageJ or pint write it

    Returns
    -------
    µm, or None where the unit is no known length or the value is not above 0
    """
    # ImageJ writes the micro sign as an escape; other writers use the Greek mu.
    name = str(unit).strip().lower().replace("\\u00b5", "µ").replace("\u03bc", "µ")
    name = name.removesuffix("s").replace("metre", "meter")
    if name not in _UM or not math.isfinite(value) or value <= 0:
        return None
    return value * _UM[name]


def size_um(
    y: float | None, x: float | None, unit_y: object, unit_x: object
) -> tuple[float, float] | None:
    """Convert a pixel's height and width to µm; None unless both are known."""
    if y is None or x is None:
        return None
    y_um, x_um = length_um(y, unit_y), length_um(x, unit_x)
    return None if y_um is None or x_um is None else (y_um, x_um)
