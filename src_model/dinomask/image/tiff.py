"""TIFF and its relatives (OME-TIFF, ImageJ, BigTIFF, SVS, LSM), read in parts.

Uncompressed images are mapped into memory; others are read a tile or strip at
a time through tifffile's zarr store.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import tifffile
import zarr

from dinomask.errors import InputError
from dinomask.image.axes import letters
from dinomask.image.raw import READ_ERRORS, RawImage, damaged, file_probe
from dinomask.image.units import length_um, size_um

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAX_TRUSTED_UM = 20.0
"""Resolution tags that mean larger pixels come from printers and screens (72 dpi is 353 µm)."""

_COLOURS = frozenset({"RGB", "YCBCR", "CIELAB", "ICCLAB", "ITULAB"})
_ALPHA = frozenset({"ASSOCALPHA", "UNASSALPHA"})


def from_tiff(path: Path) -> RawImage:
    """Describe the first image of a TIFF file, with its pyramid.

    Raises
    ------
    InputError
        If the file is damaged or cut short, or holds no image.
    """
    try:
        tif = tifffile.TiffFile(path)
    except READ_ERRORS as error:
        raise damaged(path, error) from error
    try:
        raw = _describe(tif, path)
    except READ_ERRORS as error:
        tif.close()
        raise damaged(path, error) from error
    except InputError:
        tif.close()
        raise
    return raw


def _describe(tif: tifffile.TiffFile, path: Path) -> RawImage:
    if not tif.series:
        raise InputError(
            expected="a TIFF with an image", got=f"{path} without one", remedy="Export it again."
        )
    series = tif.series[0]
    page = series.keyframe
    _require_complete(series, path)
    photometric = getattr(page.photometric, "name", "")
    extra = {getattr(sample, "name", "") for sample in page.extrasamples}
    alpha = bool(extra & _ALPHA)
    axes = letters(series.axes)
    rgb = photometric in _COLOURS and page.samplesperpixel in (3, 4)
    if not rgb and not alpha and "c" not in axes:
        axes = axes.replace("s", "c")
    probe = file_probe(path)
    return RawImage(
        name=path.name,
        levels=_levels(tif, series, path),
        stamp=probe.stamp,
        axes=axes,
        pixel_size_um=_pixel_size_um(tif, page),
        rgb=rgb,
        alpha=alpha,
        sampled=False,
        notes=tuple(_notes(tif, photometric)),
        path=path,
        depth_um=_depth_um(tif),
        probe=probe,
    )


def _levels(tif: tifffile.TiffFile, series: Any, path: Path) -> tuple[Any, ...]:
    if series.dataoffset is not None and len(series.levels) == 1:
        mapped = tifffile.memmap(path, series=0, mode="r")
        tif.close()
        return (mapped.reshape(series.shape),)
    store = tif.aszarr(series=0)
    # the store does not own the file
    weakref.finalize(store, tif.close)
    node = zarr.open(store, mode="r")
    if isinstance(node, zarr.Array):
        return (node,)
    return tuple(node[str(i)] for i in range(len(series.levels)))


def _require_complete(series: Any, path: Path) -> None:
    """Raise InputError if pixel data end beyond the file, without reading them."""
    for level in series.levels:
        for page in (level.pages[0], level.pages[-1]):
            if page is None:
                continue
            size = page.parent.filehandle.size
            ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
            if max(ends, default=0) > size:
                raise InputError(
                    expected=f"a complete TIFF of at least {max(ends)} bytes",
                    got=f"{path} with {size} bytes",
                    remedy="Copy or export the file again; it was cut short.",
                )


def _notes(tif: tifffile.TiffFile, photometric: str) -> Iterator[str]:
    if len(tif.series) > 1:
        yield f"a file of {len(tif.series)} images; the first is used"
    if photometric == "MINISWHITE":
        yield "a TIFF in which 0 is white; intensities are used as stored"


def _pixel_size_um(tif: tifffile.TiffFile, page: Any) -> tuple[float, float] | None:
    """Return a pixel's height and width from the most trustworthy metadata."""
    if tif.is_ome:
        return _ome_pixel_size_um(tif.ome_metadata or "")
    if tif.is_imagej:
        unit = (tif.imagej_metadata or {}).get("unit", "")
        if length_um(1.0, unit) and unit not in ("inch", "in"):
            per_unit = _resolution(page)
            return per_unit and size_um(1 / per_unit[0], 1 / per_unit[1], unit, unit)
    if tif.is_lsm:
        found = tif.lsm_metadata or {}
        return size_um(found.get("VoxelSizeY"), found.get("VoxelSizeX"), "m", "m")
    if tif.is_svs:
        mpp = tifffile.tifffile.svs_description_metadata(page.description).get("MPP")
        return size_um(mpp, mpp, "µm", "µm")
    return _tag_pixel_size_um(page)


def _depth_um(tif: tifffile.TiffFile) -> float | None:
    """Return the distance of planes from OME, ImageJ or LSM metadata."""
    if tif.is_ome:
        pixels = _ome_pixels(tif.ome_metadata or "")
        found = None if pixels is None else pixels.get("PhysicalSizeZ")
        unit = "µm" if pixels is None else pixels.get("PhysicalSizeZUnit", "µm")
        return None if found is None else length_um(float(found), unit)
    if tif.is_imagej:
        metadata = tif.imagej_metadata or {}
        return length_um(float(metadata.get("spacing", 0)), metadata.get("unit", ""))
    if tif.is_lsm:
        return length_um(float((tif.lsm_metadata or {}).get("VoxelSizeZ", 0)), "m")
    return None


def _ome_pixels(xml: str) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(xml).find(".//{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        return None


def _ome_pixel_size_um(xml: str) -> tuple[float, float] | None:
    """Read PhysicalSizeY and PhysicalSizeX of the first image of an OME-XML."""
    pixels = _ome_pixels(xml)
    if pixels is None:
        return None
    y, x = float(pixels.get("PhysicalSizeY", 0)), float(pixels.get("PhysicalSizeX", 0))
    unit_y = pixels.get("PhysicalSizeYUnit", "µm")
    unit_x = pixels.get("PhysicalSizeXUnit", "µm")
    return size_um(y, x, unit_y, unit_x)


def _resolution(page: Any) -> tuple[float, float] | None:
    """Return pixels per unit along y and x from the TIFF tags."""
    found = []
    for name in ("YResolution", "XResolution"):
        tag = page.tags.get(name)
        if tag is None or not tag.value[0] or not tag.value[1]:
            return None
        found.append(tag.value[0] / tag.value[1])
    return found[0], found[1]


def _tag_pixel_size_um(page: Any) -> tuple[float, float] | None:
    per_unit, tag = _resolution(page), page.tags.get("ResolutionUnit")
    unit = {2: "inch", 3: "cm"}.get(int(tag.value)) if tag is not None else None
    if per_unit is None or unit is None:
        return None
    size = size_um(1 / per_unit[0], 1 / per_unit[1], unit, unit)
    return size if size and max(size) <= _MAX_TRUSTED_UM else None
