"""Files and folders as sources: which reader fits is told from the content."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from dinomask.errors import InputError
from dinomask.image.ome import from_zarr
from dinomask.image.pictures import PICTURE_MAGIC, from_picture
from dinomask.image.place import ZARR_FILES, Folder, Remote
from dinomask.image.raw import READ_ERRORS, RawImage, damaged, file_probe
from dinomask.image.tiff import from_tiff

if TYPE_CHECKING:
    from pathlib import Path

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF in either byte order."""

_NPY_MAGIC = b"\x93NUMPY"
_MICROSCOPE_SUFFIXES = frozenset(
    {".czi", ".nd2", ".lif", ".oib", ".oif", ".vsi", ".ims", ".dv", ".mrxs", ".scn", ".zvi"}
)
_IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".npy", ".zarr"})


def from_url(url: str) -> RawImage:
    """Open a zarr or OME-Zarr behind a URL; chunks are fetched when they are read.

    Raises
    ------
    InputError
        If it is missing, out of reach, damaged or no zarr.
    """
    head, _, query = url.partition("?")
    suffix = PurePosixPath(head).suffix.lower()
    if suffix in (_IMAGE_SUFFIXES | _MICROSCOPE_SUFFIXES) - {".zarr"}:
        raise InputError(
            expected="the URL of a zarr or OME-Zarr, which can be read in parts",
            got=f"{url}, a {suffix} file",
            remedy="Other formats must be downloaded first.",
        )
    if query:
        raise InputError(
            expected="a URL to which the names of chunks can be added",
            got=f"{url}, which ends with a query",
            remedy="Leave out what follows the question mark, or download the image first.",
        )
    url = url.rstrip("/")
    for name in ZARR_FILES:
        url = url.removesuffix(f"/{name}")
    return from_zarr(Remote(url))


def from_path(path: Path) -> RawImage:
    """Open a file or a zarr folder.

    Raises
    ------
    InputError
        If it is missing, empty, damaged or no image.
    """
    path = path.expanduser().absolute()
    if not path.exists():
        raise InputError(
            expected="the path of an image",
            got=f"{path}, which does not exist",
            remedy="Check the spelling.",
        )
    if path.name in ZARR_FILES:
        path = path.parent
    try:
        return _from_folder(path) if path.is_dir() else _from_file(path)
    except PermissionError as error:
        raise InputError(
            expected="an image that may be read",
            got=f"no permission for {path}",
            remedy="Change the permissions, or copy the image to your own folder.",
        ) from error


def _from_folder(path: Path) -> RawImage:
    if any((path / name).exists() for name in ZARR_FILES):
        return from_zarr(Folder(path))
    images = sorted(p for p in path.iterdir() if p.suffix.lower() in _IMAGE_SUFFIXES)
    raise InputError(
        expected="an image file or a zarr folder",
        got=f"the folder {path} without zarr metadata",
        remedy=f"Give one image of it, for example {images[0]}."
        if images
        else "Give the path of an image.",
    )


def _from_file(path: Path) -> RawImage:
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise InputError(
            expected="an image",
            got=f"the empty file {path}",
            remedy="Copy or export the image again.",
        )
    if head.startswith(TIFF_MAGIC):
        return from_tiff(path)
    if head.startswith(_NPY_MAGIC):
        return _from_npy(path)
    if head.startswith(PICTURE_MAGIC):
        return from_picture(path)
    raise _unknown(path)


def _from_npy(path: Path) -> RawImage:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except READ_ERRORS as error:
        raise damaged(path, error) from error
    probe = file_probe(path)
    return RawImage(
        name=path.name, levels=(array,), stamp=probe.stamp, sampled=False, path=path, probe=probe
    )


def _unknown(path: Path) -> InputError:
    if path.suffix.lower() in _MICROSCOPE_SUFFIXES:
        return InputError(
            expected="a TIFF, OME-TIFF, PNG, JPEG, BMP, NPY, zarr or OME-Zarr",
            got=f"the microscope file {path}",
            remedy="Export it as OME-TIFF or OME-Zarr (Fiji or bioformats2raw do), or open it "
            "in napari with its reader plugin and segment the layer.",
        )
    return InputError(
        expected="a TIFF, OME-TIFF, PNG, JPEG, BMP, NPY, zarr or OME-Zarr",
        got=f"{path}, whose content is none of these",
        remedy="Export the image as TIFF or PNG.",
    )
