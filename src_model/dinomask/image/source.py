"""The one way to pixels: a lazily read 2-D image with channels.

`open_image` takes whatever a user has (a file, an OME-Zarr, a URL, an array, a
napari layer) and returns an `Image` that reads windows of any pyramid level.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import zarr

from dinomask.errors import InputError
from dinomask.image.arrays import from_array, is_layer, is_lazy_array
from dinomask.image.axes import choose_plane, guess_axes, parse_axes, settle_axes
from dinomask.image.files import from_path, from_url
from dinomask.image.identity import identity_of
from dinomask.image.image import Image
from dinomask.image.levels import choose_channels, require_pyramid, scales_yx, visible_channels
from dinomask.image.ome import from_node
from dinomask.image.place import is_url
from dinomask.image.raw import RawImage, dtype_of

__all__ = ["Image", "find_source", "open_image", "settle"]


def open_image(
    source: object,
    *,
    axes: str | None = None,
    channels: Sequence[int] = (),
    plane: Mapping[str, int] | None = None,
) -> Image:
    """Open an image without reading more of it than needed.

    Parameters
    ----------
    source : path of a TIFF, OME-TIFF, PNG, JPEG, BMP, NPY, zarr or OME-Zarr; the URL of
        a zarr or OME-Zarr (http, https, s3); a numpy, dask, zarr or tensorstore array; a
        list of such, fine to coarse; a zarr group; a napari layer
    axes : the source's axes, e.g. ``"czyx"``; None takes them from metadata or, for
        2-D and colour arrays, from the shape
    channels : which channels to read, counted from 0; empty takes all
    plane : the index on each axis t and z longer than 1, e.g. ``{"z": 5}``

    Raises
    ------
    AxesError
        If axes are ambiguous or wrong, or a plane must be chosen.
    InputError
        If the source is missing, empty, damaged or no image.

    Examples
    --------
    >>> image = open_image(np.zeros((2, 60, 80), np.uint16), axes="cyx")
    >>> image.shape_yx, image.n_channels, image.read((0, 0, 5, 9)).shape
    ((60, 80), 2, (2, 5, 9))
    """
    if isinstance(source, Image) and axes is None and not channels and plane is None:
        return source
    raw = find_source(source)
    return settle(raw, axes, tuple(int(c) for c in channels), dict(plane or {}))


def find_source(source: object) -> RawImage:
    """Open whatever a user gives, and read its metadata.

    Raises
    ------
    InputError
        If it is missing, damaged or no image.
    """
    if is_url(source):
        return from_url(str(source))
    if isinstance(source, str | os.PathLike):
        return from_path(Path(source))
    if isinstance(source, zarr.Group | zarr.Array):
        return from_node(source)
    if is_layer(source) or is_lazy_array(source) or isinstance(source, Sequence):
        return from_array(source)
    raise InputError(
        expected="a path, a URL, an array, a list of arrays or a napari image layer",
        got=f"an object of type {type(source).__name__}",
        remedy="Give the path of an image, or numpy.asarray(...) of it.",
    )


def settle(
    raw: RawImage, axes: str | None, channels: tuple[int, ...], plane: Mapping[str, int]
) -> Image:
    """Name the axes, choose plane and channels, and compute the identity.

    Raises
    ------
    AxesError
        If axes are ambiguous or wrong, or a plane must be chosen.
    InputError
        If there is no pixel, no such channel, or the levels don't fit together.
    """
    shapes = [tuple(int(n) for n in array.shape) for array in raw.levels]
    shape, dtype = shapes[0], dtype_of(raw.levels[0])
    if 0 in shape:
        raise InputError(
            expected="an image with at least one pixel",
            got=f"shape {shape}",
            remedy="Check how the image was written; it is empty.",
        )
    hint = raw.axes or guess_axes(shape, dtype)
    named = parse_axes(axes, shape) if axes else settle_axes(hint, shape, plane)
    chosen_plane = choose_plane(named, shape, plane)
    require_pyramid(shapes, named)
    sizes = dict(zip(named, shape, strict=True))
    visible = visible_channels(sizes.get("c", 1), sizes.get("s", 1), raw.alpha)
    chosen = choose_channels(channels, visible)
    # metadata may say that samples are no colours
    coloured = raw.rgb or ("s" in named and (axes is not None or raw.axes is None))
    image = Image(
        name=raw.name,
        shape_yx=(sizes["y"], sizes["x"]),
        n_channels=len(chosen),
        is_rgb=coloured and len(visible) == 3 and chosen == visible,
        dtype=dtype,
        pixel_size_um=raw.pixel_size_um,
        axes=named,
        plane=chosen_plane,
        identity="",
        levels=raw.levels,
        channels=chosen,
        scales_yx=raw.scales_yx or scales_yx(shapes, named),
        notes=raw.notes,
        path=raw.path,
        url=raw.url,
        depth_um=raw.depth_um,
        stamp=raw.stamp,
        sampled=raw.sampled,
        probe=raw.probe,
    )
    return dataclasses.replace(image, identity=identity_of(image))
