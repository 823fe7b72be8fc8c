"""Zarr arrays and OME-Zarr images (0.1 to 0.5), zarr formats 2 and 3.

Metadata are read leniently, because files in the wild often miss what the
specification demands (https://ngff.openmicroscopy.org/0.5).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import zarr

from dinomask.errors import InputError
from dinomask.image.axes import letters
from dinomask.image.raw import READ_ERRORS, RawImage, damaged, stamp_of
from dinomask.image.units import size_um

if TYPE_CHECKING:
    from pathlib import Path

ZARR_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
"""A folder with one of these is a zarr node."""

_RGB = ["FF0000", "00FF00", "0000FF"]
_MAX_LISTED = 8


def from_zarr(path: Path) -> RawImage:
    """Describe a zarr array or the OME-Zarr image in a group.

    Raises
    ------
    InputError
        If the folder is damaged, holds several images (a plate, a collection)
        or none; the message names what is there.
    """
    try:
        node = zarr.open(str(path), mode="r")
        if isinstance(node, zarr.Array):
            return _raw(path, [node], axes=_dimension_axes(node))
        return _from_group(path, node)
    except READ_ERRORS as error:
        raise damaged(path, error) from error


def _from_group(path: Path, group: zarr.Group) -> RawImage:
    ome = _ome(group)
    if ome.get("multiscales"):
        return _from_multiscale(path, group, ome)
    images = list(itertools.islice(_images_inside(ome, group), _MAX_LISTED + 1))
    if len(images) == 1:
        return from_zarr(path / images[0])
    if images:
        raise _which_image(path, images)
    arrays = sorted(name for name, _ in group.arrays())
    if len(arrays) == 1:
        return from_zarr(path / arrays[0])
    groups = sorted(name for name, _ in group.groups())
    if arrays or groups:
        raise _which_image(path, arrays + groups)
    raise InputError(
        expected="a zarr array or an OME-Zarr image",
        got=f"the empty zarr group {path}",
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


def _which_image(path: Path, names: Sequence[str]) -> InputError:
    listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
    return InputError(
        expected="one image",
        got=f"{path}, which holds {listed}",
        remedy=f"Give the path of one of them, for example {path / names[0]}.",
    )


def _from_multiscale(path: Path, group: zarr.Group, ome: Mapping[str, Any]) -> RawImage:
    multiscale = ome["multiscales"][0]
    levels = [group[dataset["path"]] for dataset in multiscale["datasets"]]
    found = multiscale.get("axes") or list("tczyx")
    # 0.3 lists names, 0.4 and later objects
    named = [a if isinstance(a, Mapping) else {"name": a} for a in found]
    axes = letters(a.get("name", "?") for a in named)
    units = [a.get("unit") for a in named]
    scales = [_scale(d, multiscale, len(axes)) for d in multiscale["datasets"]]
    size = None
    if scales[0] is not None:
        y, x = axes.index("y"), axes.index("x")
        size = size_um(scales[0][y], scales[0][x], units[y], units[x])
    notes: tuple[str, ...] = ()
    if len(ome["multiscales"]) > 1:
        notes = (f"a group of {len(ome['multiscales'])} images; the first is used",)
    return _raw(
        path,
        levels,
        axes=axes,
        pixel_size_um=size,
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


def _raw(path: Path, levels: Sequence[Any], **known: Any) -> RawImage:
    facts = [(level.shape, str(level.dtype)) for level in levels]
    times = [p.stat().st_mtime_ns for p in _metadata_files(path, levels)]
    return RawImage(
        name=path.name,
        levels=tuple(levels),
        stamp=stamp_of(str(path), facts, times),
        path=path,
        **known,
    )


def _metadata_files(path: Path, levels: Sequence[Any]) -> Iterable[Path]:
    folders = dict.fromkeys([path, *(path / level.path for level in levels)])
    for folder in folders:
        yield from (folder / name for name in ZARR_FILES if (folder / name).exists())
