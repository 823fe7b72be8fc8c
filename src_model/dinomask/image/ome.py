"""Zarr arrays and OME-Zarr images (0.1 to 0.5), zarr formats 2 and 3.

Metadata are read leniently, because files in the wild often miss what the
specification demands (https://ngff.openmicroscopy.org/0.5).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import zarr

from dinomask.errors import InputError
from dinomask.image.axes import letters
from dinomask.image.raw import (
    READ_ERRORS,
    Probe,
    RawImage,
    damaged,
    levels_stamp,
    stamp_of,
)
from dinomask.image.units import length_um, size_um

if TYPE_CHECKING:
    from dinomask.image.place import Place

_RGB = ["FF0000", "00FF00", "0000FF"]
_MAX_LISTED = 8


def from_zarr(place: Place) -> RawImage:
    """Describe a zarr array or the OME-Zarr image in a group.

    Raises
    ------
    InputError
        If the place is damaged, out of reach, holds several images (a plate, a
        collection) or none; the message names what is there.
    """
    try:
        node = place.open()
        if isinstance(node, zarr.Array):
            return _placed(place, from_node(node))
        return _from_group(place, node)
    except READ_ERRORS as error:
        raise damaged(place, error) from error


def from_node(node: zarr.Array[Any] | zarr.Group) -> RawImage:
    """Describe an open zarr array, or the OME-Zarr image that an open group is.

    Raises
    ------
    InputError
        If the group is no OME-Zarr image, or its metadata are damaged.
    """
    if isinstance(node, zarr.Array):
        return _raw(node.basename or "array", [node], axes=_dimension_axes(node))
    ome = _ome(node)
    if not ome.get("multiscales"):
        raise InputError(
            expected="a zarr array or the group of one OME-Zarr image",
            got="a group without multiscales",
            remedy="Give one array of it, or the list of the arrays of a pyramid.",
        )
    try:
        return _from_multiscale(node.basename or "image", node, ome)
    except READ_ERRORS as error:
        raise damaged(node.name, error) from error


def _from_group(place: Place, group: zarr.Group) -> RawImage:
    ome = _ome(group)
    if ome.get("multiscales"):
        return _placed(place, _from_multiscale(place.name, group, ome))
    images = list(itertools.islice(_images_inside(ome, group), _MAX_LISTED + 1))
    if len(images) == 1:
        return from_zarr(place / images[0])
    if images:
        raise _which_image(place, images)
    arrays = sorted(name for name, _ in group.arrays())
    if len(arrays) == 1:
        return from_zarr(place / arrays[0])
    groups = sorted(name for name, _ in group.groups())
    if arrays or groups:
        raise _which_image(place, arrays + groups)
    raise InputError(
        expected="a zarr array or an OME-Zarr image",
        got=f"the empty zarr group {place}",
        remedy="Check how it was written; there is no array in it.",
    )


def _ome(group: Any) -> Mapping[str, Any]:
    """Return the OME metadata, which zarr 3 puts one level deeper."""
    attributes: dict[str, Any] = group.attrs.asdict()
    found: Mapping[str, Any] = attributes.get("ome", attributes)
    return found


def _images_inside(ome: Mapping[str, Any], group: zarr.Group) -> Iterable[str]:
    """Name the images of a plate, a well or a bioformats2raw collection."""
    if "plate" in ome:
        for well in ome["plate"]["wells"]:
            images = _ome(group[well["path"]]).get("well", {}).get("images", [{"path": "0"}])
            yield from (f"{well['path']}/{image['path']}" for image in images)
    elif "well" in ome:
        yield from (image["path"] for image in ome["well"]["images"])
    elif "bioformats2raw.layout" in ome:
        yield from sorted((n for n, _ in group.groups() if n.isdigit()), key=int)
    elif "labels" in ome:
        yield from ome["labels"]


def _which_image(place: Place, names: Sequence[str]) -> InputError:
    listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
    return InputError(
        expected="one image",
        got=f"{place}, which holds {listed}",
        remedy=f"Give the path of one of them, for example {place / names[0]}.",
    )


def _from_multiscale(name: str, group: zarr.Group, ome: Mapping[str, Any]) -> RawImage:
    multiscale = ome["multiscales"][0]
    levels = [group[dataset["path"]] for dataset in multiscale["datasets"]]
    found = multiscale.get("axes") or list("tczyx")
    # 0.3 lists names, 0.4 and later objects
    named = [a if isinstance(a, Mapping) else {"name": a} for a in found]
    axes = letters(a.get("name", "?") for a in named)
    units = [a.get("unit") for a in named]
    scales = [_scale(d, multiscale, len(axes)) for d in multiscale["datasets"]]
    size = depth = None
    if scales[0] is not None:
        y, x = axes.index("y"), axes.index("x")
        size = size_um(scales[0][y], scales[0][x], units[y], units[x])
        z = axes.find("z")
        depth = length_um(scales[0][z], units[z]) if z >= 0 else None
    notes: tuple[str, ...] = ()
    if len(ome["multiscales"]) > 1:
        notes = (f"a group of {len(ome['multiscales'])} images; the first is used",)
    return _raw(
        name,
        levels,
        axes=axes,
        pixel_size_um=size,
        depth_um=depth,
        scales_yx=_level_scales(scales, axes),
        rgb=_is_rgb(ome, levels[0]),
        notes=notes,
    )


def _scale(
    dataset: Mapping[str, Any], multiscale: Mapping[str, Any], ndim: int
) -> list[float] | None:
    """Return the pixel size of a level in the axes' units; None if it is not told."""
    steps = [
        *dataset.get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ]
    factors = [step["scale"] for step in steps if step.get("type") == "scale" and "scale" in step]
    if not factors or any(len(f) != ndim for f in factors):
        return None
    return [math.prod(float(f[i]) for f in factors) for i in range(ndim)]


def _level_scales(
    scales: Sequence[list[float] | None], axes: str
) -> tuple[tuple[float, float], ...] | None:
    y, x = axes.index("y"), axes.index("x")
    told = [s for s in scales if s is not None and s[y] > 0 and s[x] > 0]
    if len(told) != len(scales):
        return None
    found = tuple((told[0][y] / s[y], told[0][x] / s[x]) for s in told)
    # some writers repeat the first scale on every level
    return found if len(set(found)) == len(found) else None


def _is_rgb(ome: Mapping[str, Any], level: Any) -> bool:
    channels = ome.get("omero", {}).get("channels", [])
    colours = [str(c.get("color", "")).upper() for c in channels]
    return colours == _RGB and str(level.dtype) == "uint8"


def _dimension_axes(array: zarr.Array[Any]) -> str | None:
    """Read the axes that zarr 3 or, in zarr 2, xarray stores; None if none is told."""
    names: Any = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.asdict().get("_ARRAY_DIMENSIONS")
    if not names or len(names) != array.ndim or not {"y", "x"} <= set(letters(names)):
        return None
    return letters(names)


def _raw(name: str, levels: Sequence[Any], **known: Any) -> RawImage:
    return RawImage(name=name, levels=tuple(levels), stamp=levels_stamp(levels), **known)


def _placed(place: Place, raw: RawImage) -> RawImage:
    """Add where an image was opened, and how to notice that it changed."""
    files = place.metadata_files([level.path for level in raw.levels if level.path])
    now = place.stamp(files)
    probe = Probe(str(place), now, functools.partial(place.stamp, files), place.is_remote)
    stamp = stamp_of(raw.stamp, now)
    return dataclasses.replace(raw, name=place.name, stamp=stamp, probe=probe, **place.origin)
