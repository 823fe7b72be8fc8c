"""PNG, JPEG and other everyday pictures, which are decoded whole."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from PIL import Image as Pillow

from dinomask.errors import InputError
from dinomask.image.raw import READ_ERRORS, RawImage, damaged, file_stamp

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PICTURE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"P5", b"P6")
"""First bytes of PNG, JPEG, GIF, BMP, WebP and PNM."""

# Naming them keeps Pillow from running Ghostscript on a disguised EPS.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM")
_GREY_MODES = {"LA": "L", "La": "L"}
_AS_THEY_ARE = frozenset({"1", "L", "I", "F", "I;16", "I;16B", "RGB"})


def from_picture(path: Path) -> RawImage:
    """Decode a picture; its resolution tag is meant for printers and not used.

    Opacity is dropped and palettes become colours. Of an animation the first
    frame is taken.

    Raises
    ------
    InputError
        If the file is damaged, no picture, or too large to be decoded whole.
    """
    notes: tuple[str, ...] = ()
    try:
        with warnings.catch_warnings():
            # our users' pictures are large; only Pillow's hard limit counts
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            with Pillow.open(path, formats=_FORMATS) as picture:
                pixels = _pixels(picture, path)
                n_frames = getattr(picture, "n_frames", 1)
        if n_frames > 1:
            notes = (f"an animation of {n_frames} frames; the first is used",)
    except Pillow.DecompressionBombError as error:
        raise InputError(
            expected="a picture that can be decoded whole",
            got=f"{path}: {error}",
            remedy="Convert it to a tiled OME-TIFF or OME-Zarr, which are read in parts.",
        ) from error
    except READ_ERRORS as error:
        raise damaged(path, error) from error
    return RawImage(
        name=path.name,
        levels=(pixels,),
        stamp=file_stamp(path),
        axes="yxs" if pixels.ndim == 3 else "yx",
        rgb=pixels.ndim == 3,
        sampled=False,
        notes=notes,
        path=path,
    )


def _pixels(picture: Pillow.Image, path: Path) -> NDArray[Any]:
    """Decode one picture; shape (Y, X) grey or (Y, X, 3) colour."""
    if picture.format == "PNG" and _png_bits(path) == 16:
        # Pillow would cut 16-bit colours to 8 bits
        pixels = np.asarray(imagecodecs.png_decode(path.read_bytes()))
        if pixels.ndim == 2:
            return pixels
        return pixels[..., 0] if pixels.shape[2] <= 2 else pixels[..., :3]
    if picture.mode == "P":
        # straight to RGB, Pillow warns about transparent palette entries
        picture = picture.convert("L" if _is_grey_palette(picture) else "RGBA")
    if picture.mode in _AS_THEY_ARE:
        return np.asarray(picture)
    return np.asarray(picture.convert(_GREY_MODES.get(picture.mode, "RGB")))


def _is_grey_palette(picture: Pillow.Image) -> bool:
    colours = np.asarray(picture.getpalette("RGB")).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def _png_bits(path: Path) -> int:
    # the header chunk comes first: signature 8, length 4, "IHDR" 4, width 4, height 4, depth 1
    with path.open("rb") as file:
        return file.read(25)[24]
