"""The input doctor: look at an image before anything runs, and say what to do.

A bounded sample of pixels is examined, the same each time, so that even a
whole slide answers within seconds. A fault outside the sample stays unseen.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dinomask.config import NormaliseConfig
from dinomask.errors import InputError
from dinomask.image.normalise import read_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from dinomask.image.source import Image

Severity = Literal["error", "warning", "info"]

_ORDER: tuple[Severity, ...] = ("error", "warning", "info")
_SATURATED_SHARE = 0.01
_LOW_CONTRAST_COUNTS = 8
_LOW_CONTRAST_SHARE = 0.005
_TINY_PX = 16
_CAMERA_BITS = (8, 10, 12, 14, 16)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to know about an image before it is segmented."""

    severity: Severity
    """`error`: it can't be segmented; `warning`: the result may suffer; `info`: good to know."""

    what: str
    """What was found, as a sentence."""

    remedy: str
    """What to do about it, as a sentence."""


def examine(image: Image, *, max_samples: int = NormaliseConfig.max_samples) -> list[Finding]:
    """Look for what would spoil a segmentation.

    Parameters
    ----------
    image : any size
    max_samples : pixels a channel to read at most, in blocks spread over level 0;
        fewer a channel when there are more than three

    Returns
    -------
    errors first, then warnings, then infos; empty when nothing is to be said

    Raises
    ------
    InputError
        If the source is damaged all over.
    """
    samples_cn, n_bad = read_samples(image, max_samples * 3 // max(3, image.n_channels))
    found = [*_examine_pixels(image, samples_cn), *_examine_layout(image)]
    if n_bad:
        found.append(
            Finding(
                "warning",
                f"Parts of the image can't be read ({n_bad} of the blocks looked at).",
                "Objects there will be missing; copy or export the image again.",
            )
        )
    return sorted(found, key=lambda finding: _ORDER.index(finding.severity))


def require_usable(findings: Iterable[Finding]) -> None:
    """Raise InputError if one of the findings is an error."""
    for finding in findings:
        if finding.severity == "error":
            raise InputError(
                expected="an image that can be segmented",
                got=finding.what[0].lower() + finding.what[1:].rstrip("."),
                remedy=finding.remedy,
            )


def describe(image: Image) -> str:
    """Summarise an image in a few lines for people."""
    height, width = image.shape_yx
    channels = "grey" if image.n_channels == 1 else f"{image.n_channels} channels"
    channels = "RGB" if image.is_rgb else channels
    lines = [f"{image.name}: {height} x {width} px, {channels}, {image.dtype}"]
    plane = ", ".join(f"{axis}={index}" for axis, index in image.plane.items())
    lines.append(f"axes {image.axes}" + (f", plane {plane}" if plane else ""))
    if image.pixel_size_um is None:
        lines.append("pixel size unknown")
    else:
        y_um, x_um = image.pixel_size_um
        lines.append(f"pixel size {y_um:.4g} x {x_um:.4g} µm")
    if len(image.levels) > 1:
        sizes = (image.level_shape_yx(level) for level in range(len(image.levels)))
        lines.append(f"{len(image.levels)} levels: " + ", ".join(f"{h} x {w}" for h, w in sizes))
    return "\n".join(lines)


def _examine_pixels(image: Image, samples_cn: NDArray[Any]) -> Iterator[Finding]:
    if samples_cn.dtype.kind == "f":
        n_bad = int(np.count_nonzero(~np.isfinite(samples_cn)))
        if n_bad:
            yield Finding(
                "error",
                f"The image has NaN or infinite pixels ({n_bad} of {samples_cn.size} looked at).",
                "Replace them first, for example with numpy.nan_to_num(image).",
            )
            return
    low, high = samples_cn.min(), samples_cn.max()
    if low == high:
        value = "zero" if low == 0 else f"{low}"
        yield Finding(
            "warning",
            f"Every pixel is {value}; there is nothing to segment.",
            "Check the channel and the plane (--channels, --plane), and the exposure.",
        )
        return
    if samples_cn.dtype.kind == "b" or _has_two_values(samples_cn, low, high):
        yield Finding(
            "warning",
            "The image has only two values, like a mask.",
            "Give the picture itself, not its segmentation.",
        )
        return
    yield from _examine_contrast(samples_cn)
    yield from _examine_saturation(image, samples_cn)


def _has_two_values(samples_cn: NDArray[Any], low: Any, high: Any) -> bool:
    return samples_cn.size > 2 and bool(((samples_cn == low) | (samples_cn == high)).all())


def _examine_contrast(samples_cn: NDArray[Any]) -> Iterator[Finding]:
    """Compare the range of intensities that counts with what noise can fill."""
    config = NormaliseConfig()
    low, mid, high = np.percentile(
        samples_cn.astype(np.float64), [config.low_pct, 50, config.high_pct]
    )
    span = float(high - low)
    # a range of zero means sparse objects on an even background
    too_few = samples_cn.dtype.kind in "iu" and span < _LOW_CONTRAST_COUNTS
    if span > 0 and (too_few or span < _LOW_CONTRAST_SHARE * abs(mid)):
        yield Finding(
            "warning",
            f"The contrast is very low: most pixels lie between {low:.6g} and {high:.6g}.",
            "Expose longer, or check that the right channel was exported without rescaling.",
        )


def _examine_saturation(image: Image, samples_cn: NDArray[Any]) -> Iterator[Finding]:
    if samples_cn.dtype.kind not in "iu":
        return
    for channel, row in enumerate(samples_cn):
        top = int(row.max())
        share = np.count_nonzero(row == top) / row.size
        if share > _SATURATED_SHARE and _is_full(row.dtype, top):
            yield Finding(
                # a bright-field background is white by intent
                "info" if image.is_rgb else "warning",
                f"{share:.1%} of channel {channel} is saturated at {top}.",
                "Objects that touch in the white can't be told apart; expose shorter."
                if not image.is_rgb
                else "That is fine for a white background.",
            )


def _is_full(dtype: np.dtype, top: int) -> bool:
    """Whether `top` is the largest value of the type or of a usual camera."""
    return top == np.iinfo(dtype).max or top in (2**bits - 1 for bits in _CAMERA_BITS)


def _examine_layout(image: Image) -> Iterator[Finding]:
    if min(image.shape_yx) < _TINY_PX:
        yield Finding(
            "warning",
            f"The image is only {image.shape_yx[0]} x {image.shape_yx[1]} pixels.",
            "Check the axes (--axes); objects need to be several pixels wide.",
        )
    if image.n_channels > 1 and not image.is_rgb:
        yield Finding(
            "warning",
            f"The image has {image.n_channels} channels; the mean of them is segmented.",
            "Choose the channels that show the objects, for example --channels 0.",
        )
    if image.pixel_size_um is None:
        yield Finding(
            "info",
            "The pixel size is unknown.",
            "Sizes are given in pixels; give the diameter of an object in pixels too.",
        )
    else:
        yield from _examine_pixel_size(image.pixel_size_um)
    for note in image.notes:
        yield Finding(
            "info",
            f"The source is {note}.",
            "If another was meant, export it to a file of its own.",
        )


def _examine_pixel_size(pixel_size_um: tuple[float, float]) -> Iterator[Finding]:
    y_um, x_um = pixel_size_um
    if max(y_um, x_um) > 1.1 * min(y_um, x_um):
        yield Finding(
            "warning",
            f"Pixels are not square: {y_um:.4g} x {x_um:.4g} µm.",
            "Resample the image to square pixels, or check its metadata.",
        )
