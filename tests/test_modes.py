"""Images of every mode become 8-bit RGB by one stated rule; those of before have the same bits."""

import io

import numpy as np
import pytest
from PIL import Image

from pse_jax.data import modes
from pse_jax.data.transforms import pixels_of
from pse_jax.errors import ImageError

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
RGB = np.stack([GREY, GREY[::-1], GREY.T], axis=-1)


def through_file(image, form):
    stream = io.BytesIO()
    image.save(stream, form)
    return Image.open(stream)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_ordinary_modes_are_turned_by_pillow(mode):
    image = Image.fromarray(RGB).convert(mode)
    np.testing.assert_array_equal(modes.rgb(image), np.asarray(image.convert("RGB")))


def test_transparency_is_ignored():
    clear = np.concatenate([RGB, np.zeros((16, 16, 1), np.uint8)], axis=2)
    np.testing.assert_array_equal(modes.rgb(through_file(Image.fromarray(clear), "PNG")), RGB)
    both = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(GREY[::-1])))
    np.testing.assert_array_equal(modes.rgb(both), np.stack([GREY] * 3, -1))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])  # Pillow opens PPM as mode I
def test_sixteen_bits_are_cut_to_the_high_byte(form):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = modes.rgb(through_file(Image.fromarray(values), form))
    expected = [[v // 256 for v in row] for row in values.tolist()]
    np.testing.assert_array_equal(found, np.stack([np.array(expected)] * 3, -1))


def test_sixteen_bits_big_endian():
    image = Image.frombytes("I;16B", (2, 1), bytes([0x12, 0x34, 0xFF, 0xFF]))
    assert modes.rgb(image)[0, :, 0].tolist() == [0x12, 0xFF]


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # 127.5 is rounded to even
        ([0.0, 0.25, 1.01], [0, 0, 1]),
        ([0.0, 100.4, 255.0], [0, 100, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_floating_point_numbers_run_from_0_to_the_first_white_that_holds_them(values, expected):
    image = Image.fromarray(np.array([values], np.float32))
    assert modes.rgb(through_file(image, "TIFF"))[0, :, 1].tolist() == expected


@pytest.mark.parametrize(
    "values, mode",
    [([-1, 5], np.int32), ([0, 65536], np.int32), ([-0.1, 1], np.float32), ([0, 7e4], np.float32),
     ([np.nan, 1], np.float32), ([np.inf, 1], np.float32)],
)  # fmt: skip
def test_values_without_a_meaning_are_refused(values, mode):
    image = Image.fromarray(np.array([values], mode))
    with pytest.raises(ImageError, match=r"its values \(mode [IF]\) run from .* scale its values"):
        modes.rgb(image)


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("#ff0000", "#00ff00")]
    for form in ("gif", "png", "webp", "tif"):
        file = tmp_path / f"a.{form}"
        options = {"lossless": True} if form == "webp" else {}
        frames[0].save(file, save_all=True, append_images=frames[1:], **options)
        assert pixels_of(file)[4, 4].tolist() == [255, 0, 0], form


def test_what_is_too_large_is_refused_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "a.ppm").write_bytes(b"P6 20000 20000 255\n")
    with pytest.raises(
        ImageError, match=r"400000000 pixels\) exceeds limit of 178956970 pixels; make"
    ):
        pixels_of(tmp_path / "a.ppm")
