"""Arrays, lists of levels and napari layers as sources.

Layers are known by what they offer, so that nothing here imports napari.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dinomask.errors import InputError
from dinomask.image.axes import letters
from dinomask.image.raw import RawImage, levels_stamp
from dinomask.image.units import length_um, size_um


def is_layer(source: object) -> bool:
    """Whether an object is a napari layer of any kind."""
    return all(hasattr(source, name) for name in ("multiscale", "scale", "data"))


def is_lazy_array(source: object) -> bool:
    """Whether an object is an array: it has a shape and a dtype and can be sliced."""
    return all(hasattr(source, name) for name in ("shape", "dtype", "__getitem__"))


def from_array(source: object) -> RawImage:
    """Describe an array, a list of levels from fine to coarse, or a napari image layer.

    Raises
    ------
    InputError
        If a layer is no image layer, or a list holds no arrays.
    """
    if is_layer(source):
        return _from_layer(source)
    levels = _levels(source)
    return RawImage(name="array", levels=levels, stamp=levels_stamp(levels))


def _levels(source: Any) -> tuple[Any, ...]:
    # napari's MultiScaleData is a sequence that also has a shape and a dtype
    levels = tuple(source) if isinstance(source, Sequence) else (source,)
    wrong = [type(level).__name__ for level in levels if not is_lazy_array(level)]
    if wrong or not levels:
        raise InputError(
            expected="a list of arrays, the finest level first",
            got=f"a list with {wrong[0]}" if wrong else "an empty list",
            remedy="Give one array, for example numpy.asarray(...), or a list of arrays.",
        )
    return levels


def _from_layer(layer: Any) -> RawImage:
    if not hasattr(layer, "rgb"):
        raise InputError(
            expected="an image layer",
            got=f"a {type(layer).__name__} layer",
            remedy="Choose a layer that shows an image.",
        )
    levels = _levels(layer.data)
    rgb = bool(layer.rgb)
    n_dims = len(levels[0].shape) - int(rgb)
    labels = tuple(getattr(layer, "axis_labels", ()))
    axes = letters(labels if len(labels) == n_dims else ["?"] * n_dims)
    return RawImage(
        name=str(getattr(layer, "name", "layer")),
        levels=levels,
        stamp=levels_stamp(levels),
        axes=axes + "s" if rgb else axes,
        pixel_size_um=_layer_pixel_size_um(layer, axes),
        rgb=rgb,
        depth_um=_layer_depth_um(layer, axes),
    )


def _layer_pixel_size_um(layer: Any, axes: str) -> tuple[float, float] | None:
    scale, units = tuple(layer.scale), tuple(getattr(layer, "units", ()) or ())
    if not {"y", "x"} <= set(axes) or not len(scale) == len(units) == len(axes):
        return None
    y, x = axes.index("y"), axes.index("x")
    return size_um(float(scale[y]), float(scale[x]), units[y], units[x])


def _layer_depth_um(layer: Any, axes: str) -> float | None:
    scale, units = tuple(layer.scale), tuple(getattr(layer, "units", ()) or ())
    if "z" not in axes or not len(scale) == len(units) == len(axes):
        return None
    z = axes.index("z")
    return length_um(float(scale[z]), units[z])
