"""From a file to padded pixels: the reference's resize rule, and boxes that follow the pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile

from pse_jax.data import transforms
from pse_jax.errors import ImageError


@pytest.mark.parametrize(
    "size_wh, resized_wh",
    [
        ((640, 480), (1066, 800)),  # the long side is cut, 1066.67
        ((480, 640), (800, 1066)),
        ((640, 360), (1333, 750)),
        ((640, 200), (1334, 417)),  # the short side is rounded up, so the long one ends above 1333
        ((500, 500), (800, 800)),
        ((1000, 800), (1000, 800)),  # already right: untouched
        ((4000, 3000), (1066, 800)),
    ],
)
def test_the_reference_resize_rule(size_wh, resized_wh):
    assert transforms.resized_hw(*size_wh[::-1], 800, 1333) == resized_wh[::-1]


@given(height=st.integers(50, 3000), width=st.integers(50, 3000))
def test_resizing_keeps_the_ratio_and_one_of_two_limits(height, width):
    resized = transforms.resized_hw(height, width, 800, 1333)
    short, long = sorted(resized)
    ratio = max(height, width) / min(height, width)
    assert short == 800 or (short < 800 and abs(long - 1333) <= ratio / 2 + 1)
    assert abs(long - short * ratio) <= 1
    assert (resized[0] <= resized[1]) == (height <= width) or short == long
    assert resized == transforms.resized_hw(width, height, 800, 1333)[::-1]


def test_boxes_are_scaled_by_each_axis_own_factor():
    boxes = np.array([[64, 48, 320, 240]], np.float32)
    scaled = transforms.scale_boxes(boxes, (480, 640), (800, 1066))
    np.testing.assert_allclose(scaled, [[64 * 1066 / 640, 80, 320 * 1066 / 640, 400]], rtol=1e-6)


def test_resize_keeps_the_size_and_shrinks_with_antialiasing():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert transforms.resize(stripes, (64, 64)) is stripes
    small = transforms.resize(stripes, (16, 16))
    assert small.shape == (16, 16, 3)
    np.testing.assert_allclose(small, 100, atol=15)  # an aliased one would be 0 or 200
    assert transforms.resize(stripes, (100, 90)).shape == (100, 90, 3)


@given(seed=st.integers(0, 1000), width=st.integers(1, 40))
def test_flipping_twice_is_nothing_and_once_is_the_mirror(seed, width):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (5, width, 3), np.uint8)
    corners = np.sort(rng.integers(0, width + 1, (4, 2)), axis=1)
    boxes = np.stack([corners[:, 0], np.zeros(4), corners[:, 1], np.full(4, 5)], 1).astype(
        np.float32
    )
    mirrored, mirrored_boxes = transforms.flip(pixels, boxes)
    np.testing.assert_array_equal(mirrored, np.fliplr(pixels))
    assert (mirrored_boxes[:, 2] >= mirrored_boxes[:, 0]).all()
    for (x0, _, x1, _), (m0, _, m1, _) in zip(
        boxes.astype(int), mirrored_boxes.astype(int), strict=True
    ):
        np.testing.assert_array_equal(mirrored[:, m0:m1], np.fliplr(pixels[:, x0:x1]))
    again, boxes_again = transforms.flip(mirrored, mirrored_boxes)
    np.testing.assert_array_equal(again, pixels)
    np.testing.assert_array_equal(boxes_again, boxes)


def test_padding_is_right_and_below():
    pixels = np.full((2, 3, 3), 7, np.uint8)
    padded = transforms.pad(pixels, (4, 5))
    assert padded.shape == (4, 5, 3) and padded.dtype == np.uint8
    assert padded[:2, :3].min() == 7 and padded.sum() == pixels.sum()


def test_boxes_are_padded_with_a_mask_and_never_cut():
    boxes, labels = np.ones((2, 4), np.float32), np.array([5, 6])
    padded = transforms.pad_boxes(boxes, labels, 3)
    assert padded["box_valid"].tolist() == [True, True, False]
    assert padded["labels"].tolist() == [5, 6, 0]
    assert padded["boxes"].tolist() == [[1] * 4, [1] * 4, [0] * 4]
    with pytest.raises(ValueError, match="2 boxes do not fit in 1 slots"):
        transforms.pad_boxes(boxes, labels, 1)


GREY = np.linspace(20, 230, 48 * 64).reshape(48, 64).astype(np.uint8)


def decode(file, size_hw):
    return transforms.decode(file.read_bytes(), str(file), size_hw)


@pytest.mark.parametrize(
    "mode, name",
    [("L", "a.jpg"), ("RGB", "a.jpg"), ("CMYK", "a.jpg"), ("RGBA", "a.png"), ("P", "a.png"),
     ("LA", "a.png"), ("RGB", "a.png")],
)  # fmt: skip
def test_every_kind_of_image_becomes_rgb(tmp_path, mode, name):
    Image.fromarray(np.stack([GREY] * 3, -1)).convert(mode).save(tmp_path / name)
    pixels = decode(tmp_path / name, (48, 64))
    assert pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8
    assert abs(pixels.mean() - GREY.mean()) < 1
    assert np.abs(pixels - GREY[..., None].astype(float)).mean() < (26 if mode == "P" else 2)


def test_a_png_that_is_called_jpg(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.jpg", format="png")
    np.testing.assert_array_equal(decode(tmp_path / "a.jpg", (48, 64))[..., 0], GREY)


def test_files_that_are_no_images(tmp_path):
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    Image.fromarray(GREY).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    for name, content in {"cut.jpg": whole[:-300], "empty.jpg": b"", "page.jpg": b"<html>"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=f"{name} cannot be decoded: "):
            decode(tmp_path / name, (48, 64))


def test_an_image_of_another_size_than_annotated(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.jpg")
    for size_hw in ((64, 48), (48, 65)):
        said = f"is 64x48 px, but its annotations say {size_hw[1]}x{size_hw[0]}"
        with pytest.raises(ImageError, match=said):
            decode(tmp_path / "a.jpg", size_hw)


@pytest.mark.parametrize(
    "size_wh, detectron2, torchvision",
    [
        ((640, 480), (1067, 800), (1066, 800)),
        ((640, 360), (1333, 750), (1333, 749)),
        ((480, 640), (800, 1067), (800, 1066)),
        ((640, 200), (1333, 417), (1333, 416)),
    ],
)
def test_other_resize_rules(size_wh, detectron2, torchvision):
    for rule, expected in [
        ("detectron2", detectron2),
        ("mmdet", detectron2),
        ("torchvision", torchvision),
    ]:
        assert transforms.resized_hw(*size_wh[::-1], 800, 1333, rule) == expected[::-1], rule


@pytest.mark.parametrize("hw", [(20, 33), (64, 48), (13, 90)])
def test_resize_without_antialiasing_is_pytorch_interpolate(rng, hw):
    torch = pytest.importorskip("torch")
    pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
    planes = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    options = {"mode": "bilinear", "align_corners": False}
    expected = torch.nn.functional.interpolate(planes, hw, **options)[0].permute(1, 2, 0)
    for rule in ("mmdet", "torchvision"):
        found = transforms.resize(pixels, hw, rule)
        np.testing.assert_allclose(found, expected, atol=1.01)
