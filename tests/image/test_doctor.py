from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from dinomask.errors import InputError
from dinomask.image import describe, examine, open_image, require_usable

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dinomask.image import Finding


def good(shape: tuple[int, ...] = (90, 80), dtype: str = "u2") -> NDArray[Any]:
    return np.random.default_rng(0).integers(100, 200, shape).astype(dtype)


def found(array: NDArray[Any], word: str, **options: Any) -> Finding:
    findings = [f for f in examine(open_image(array, **options)) if word in f.what]
    assert len(findings) == 1, examine(open_image(array, **options))
    assert findings[0].remedy.endswith(".")
    return findings[0]


def test_a_good_image_lacks_only_its_pixel_size(tmp_path: Path) -> None:
    findings = examine(open_image(good()))
    assert [(f.severity, "pixel size" in f.what) for f in findings] == [("info", True)]
    path = tmp_path / "sized.tif"
    tifffile.imwrite(path, good(), resolution=(20_000, 20_000), resolutionunit="CENTIMETER")
    assert examine(open_image(path)) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_stop_the_work(value: float) -> None:
    image = good(dtype="f4")
    image[3, 4] = value
    assert found(image, "NaN or infinite").severity == "error"
    findings = examine(open_image(image))
    assert findings[0].severity == "error"
    with pytest.raises(InputError, match="nan_to_num") as caught:
        require_usable(findings)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("value", "word"), [(0, "Every pixel is zero"), (7, "Every pixel is 7")])
@pytest.mark.parametrize("dtype", ["u1", "f4", "i4"])
def test_even_images_are_a_warning(value: int, word: str, dtype: str) -> None:
    image = np.full((40, 50), value, dtype)
    assert found(image, word).severity == "warning"
    require_usable(examine(open_image(image)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (1, 2)])
def test_tiny_images_are_a_warning(shape: tuple[int, int]) -> None:
    assert found(good(shape), f"only {shape[0]} x {shape[1]}").severity == "warning"
    require_usable(examine(open_image(good(shape))))


@pytest.mark.parametrize(
    ("dtype", "top"), [("u1", 255), ("u2", 4095), ("u2", 65535), ("i2", 32767)]
)
def test_saturation_is_seen_at_the_depth_of_the_camera(dtype: str, top: int) -> None:
    image = good(dtype=dtype)
    image[:2] = top
    assert found(image, f"saturated at {top}").severity == "warning"
    image[:2] = 200
    image[0, :5] = top
    assert not [f for f in examine(open_image(image)) if "saturated" in f.what]


def test_a_white_background_of_colour_pictures_is_no_fault() -> None:
    image = good((90, 80, 3), "u1")
    image[:60] = 255
    saturated = [f for f in examine(open_image(image)) if "saturated" in f.what]
    assert [f.severity for f in saturated] == ["info"] * 3


@pytest.mark.parametrize("scale", [1, 40_000])
def test_low_contrast_is_a_warning(scale: int) -> None:
    image = (scale + np.random.default_rng(0).integers(0, 4, (90, 80))).astype("u2")
    assert found(image, "contrast is very low").severity == "warning"
    bright = 1.0 + good(dtype="f4") * 1e-6
    assert found(bright, "contrast is very low").severity == "warning"


def test_sparse_objects_are_no_low_contrast() -> None:
    image = np.zeros((400, 400), "u2")
    image[5:10, 5:10] = good((5, 5))
    assert not [f for f in examine(open_image(image)) if "contrast" in f.what]


@pytest.mark.parametrize("dtype", ["?", "u1"])
def test_masks_are_a_warning(dtype: str) -> None:
    mask = np.zeros((40, 40), dtype)
    mask[5:9] = 1
    assert found(mask, "only two values").severity == "warning"


@pytest.mark.parametrize("n_channels", [2, 5])
def test_channels_that_will_be_averaged_are_a_warning(n_channels: int) -> None:
    image = good((n_channels, 90, 80))
    finding = found(image, f"{n_channels} channels", axes="cyx")
    assert finding.severity == "warning"
    assert "--channels" in finding.remedy
    chosen = examine(open_image(image, axes="cyx", channels=(1,)))
    assert not [f for f in chosen if "channels" in f.what]


def test_pixels_that_are_not_square_are_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "flat.tif"
    tifffile.imwrite(path, good(), resolution=(20_000, 10_000), resolutionunit="CENTIMETER")
    assert any("not square" in f.what for f in examine(open_image(path)))


def test_what_the_reader_noted_is_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(good())
        writer.write(good((9, 9)))
    assert any("2 images" in f.what for f in examine(open_image(path)))


def test_a_bounded_number_of_pixels_is_read() -> None:
    reads = []

    class Huge:
        shape, dtype, ndim = (50, 80_000, 90_000), np.dtype("u1"), 3

        def __getitem__(self, index: tuple[slice, ...]) -> NDArray[np.uint8]:
            shape = tuple(part.stop - part.start for part in index)
            reads.append(np.prod(shape))
            return np.broadcast_to(np.arange(shape[-1], dtype=np.uint8), shape)

    image = open_image(Huge(), axes="cyx")
    reads.clear()
    examine(image, max_samples=300_000)
    assert 0 < sum(reads) <= 50 * 256**2


def test_the_summary_names_what_matters(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    stack = good((4, 3, 90, 80))
    tifffile.imwrite(
        path, stack, imagej=True, resolution=(4, 4), metadata={"axes": "ZCYX", "unit": "um"}
    )
    text = describe(open_image(path, plane={"z": 2}))
    for part in ("stack.tif: 90 x 80 px", "3 channel", "uint16", "zcyx", "z=2", "0.25 x 0.25 µm"):
        assert part in text
    assert "2 levels: 90 x 80, 45 x 40" in describe(open_image([good(), good()[::2, ::2]]))


def test_images_are_examined_without_torch_or_qt() -> None:
    code = (
        "import sys, numpy; from dinomask.image import examine, open_image;"
        "examine(open_image(numpy.eye(40)));"
        "bad = {'torch', 'qtpy', 'napari'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_real_images_are_usable(data_dir: Path) -> None:
    folders = sorted(p for p in data_dir.iterdir() if (p / "images").is_dir())
    assert folders
    for folder in folders:
        for path in sorted((folder / "images").iterdir())[:3]:
            require_usable(examine(open_image(path)))
