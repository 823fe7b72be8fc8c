from __future__ import annotations

from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow

from dinomask.errors import InputError
from dinomask.image.source import open_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def whole(image: Any) -> NDArray[Any]:
    return image.read((0, 0, *image.shape_yx))


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp", "ppm", "jpg"])
def test_colour_pictures(tmp_path: Path, pixels_yxs: NDArray[np.uint8], suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    Pillow.fromarray(pixels_yxs).save(path, **options.get(suffix, {}))
    image = open_image(path)
    assert (image.is_rgb, image.axes, image.pixel_size_um) == (True, "yxs", None)
    # JPEG loses a little even at its best
    apart = np.abs(whole(image).astype(int) - pixels_yxs.transpose(2, 0, 1))
    assert apart.max() <= (6 if suffix == "jpg" else 0)


@pytest.mark.parametrize("suffix", ["png", "bmp", "jpg", "gif"])
def test_grey_pictures_have_one_channel(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"grey.{suffix}"
    grey = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (30, 1))
    Pillow.fromarray(grey).save(path)
    image = open_image(path)
    assert (image.n_channels, image.axes) == (1, "yx")
    assert np.abs(whole(image)[0].astype(int) - grey).max() <= (4 if suffix == "jpg" else 0)


@pytest.mark.parametrize("n_samples", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_png_keeps_its_depth_and_drops_opacity(tmp_path: Path, n_samples: int, dtype: str) -> None:
    path = tmp_path / "deep.png"
    shape = (20, 30, n_samples) if n_samples > 1 else (20, 30)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    path.write_bytes(imagecodecs.png_encode(pixels))
    image = open_image(path)
    n_channels = 1 if n_samples <= 2 else 3
    assert (image.n_channels, image.dtype) == (n_channels, np.dtype(dtype))
    expected = np.atleast_3d(pixels)[..., :n_channels].transpose(2, 0, 1)
    np.testing.assert_array_equal(whole(image), expected)


def test_palettes_become_colours(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    picture = Pillow.fromarray(np.tile(np.array([0, 1], np.uint8), (4, 3)))
    picture = picture.convert("P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(path, transparency=b"\x80\xff")
    pixels = whole(open_image(path))
    assert pixels[:, 0, 0].tolist() == [255, 0, 0]
    assert pixels[:, 0, 1].tolist() == [0, 0, 255]


def test_black_and_white_pictures_are_boolean(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    mask = np.eye(9, dtype=bool)
    Pillow.fromarray(mask).save(path)
    np.testing.assert_array_equal(whole(open_image(path))[0], mask)


def test_the_first_frame_of_an_animation_is_used_and_said(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    frames = [Pillow.fromarray(np.full((8, 8), v, np.uint8)) for v in (10, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    image = open_image(path)
    assert (whole(image)[0] == 10).all()
    assert "2 frames" in image.notes[0]


@pytest.mark.parametrize(
    ("suffix", "depth"),
    [("png", "u1"), ("png", "u2"), ("jpg", "u1"), ("bmp", "u1"), ("gif", "u1")],
)
def test_pictures_cut_short_are_refused(tmp_path: Path, suffix: str, depth: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (90, 80), dtype=depth)
    Pillow.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="again"):
        open_image(path)


def test_pictures_too_large_to_decode_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.png"
    Pillow.fromarray(np.zeros((100, 100), np.uint8)).save(path)
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 6_000)
    assert open_image(path).shape_yx == (100, 100)
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 4_000)
    with pytest.raises(InputError, match="tiled OME-TIFF"):
        open_image(path)
