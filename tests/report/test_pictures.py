"""Pictures made of boxes: sheets, cut-outs, detections over the ground truth."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from pse_jax.categories import Categories
from pse_jax.detector import Detections
from pse_jax.drawing import PALETTE
from pse_jax.report import pictures
from pse_jax.report.pictures import TRUTH, crop, draw_detections, sheet
from tests.test_drawing import where


def test_detections_below_the_threshold_are_left_out_and_the_picture_is_resized():
    found = Detections(
        boxes_xyxy=np.array([[10.0, 10, 50, 50], [60.0, 10, 90, 50]], np.float32),
        scores=np.array([0.9, 0.2], np.float32),
        category_ids=np.array([7, 3]),
        names=("kite", "dog"),
    )
    categories = Categories((3, 7), ("dog", "kite"))
    truth = np.array([[10, 10, 90, 40]], np.float32)
    draw = lambda image: draw_detections(image, found, categories, truth, threshold=0.3, size=400)  # noqa: E731
    picture = draw(Image.new("RGB", (100, 50)))
    assert picture.size == (400, 200)
    (x0, _, x1, y1), _ = where(picture, PALETTE[1])
    assert abs(x0 - 40) <= 2 and abs(x1 - 199) <= 2 and y1 == 199
    assert where(picture, TRUTH)[1].any()
    assert not (np.asarray(picture) == ImageColor.getrgb(PALETTE[0])).all(axis=-1).any()


def test_a_sheet_holds_every_picture():
    colours = ("#ff0000", "#00ff00", "#0000ff")
    sizes = ((40, 30), (30, 40), (40, 40))
    made = [Image.new("RGB", wh, c) for wh, c in zip(sizes, colours, strict=True)]
    whole = sheet(made, 2, gap=10)
    assert whole.size == (110, 110)
    for (width, height), colour in zip(sizes, colours, strict=True):
        (x0, y0, x1, y1), mask = where(whole, colour)
        assert (x1 - x0 + 1, y1 - y0 + 1) == (width, height) and mask.sum() == width * height
    assert sheet(made[:1], 4, gap=10).size == (60, 50)


def test_the_window_is_a_square_around_all_boxes():
    boxes = np.array([[40.0, 40, 60, 50], [50.0, 44, 80, 52]])
    left, top, right, bottom = pictures.window(boxes, (100, 200))
    assert right - left == pytest.approx(bottom - top) == pytest.approx(40 * 1.36)
    assert left <= 40 and right >= 80 and top <= 40 and bottom >= 52
    left, top, right, bottom = pictures.window(np.array([[0.0, 0, 20, 20]]), (100, 200))
    assert (left, top) == (0, 0)
    left, top, right, bottom = pictures.window(np.array([[0.0, 0, 200, 90]]), (100, 200))
    assert (left, right, top, bottom) == (0, 200, -50, 150)
    left, top, right, bottom = pictures.window(np.array([[90.0, 40, 110, 60]]), (100, 200), 4 / 3)
    assert (right - left) / (bottom - top) == pytest.approx(4 / 3)


def test_boxes_stay_on_what_they_surround_when_an_image_is_cropped():
    image = Image.new("RGB", (200, 100), "#808080")
    image.paste("#ff0000", (150, 60, 170, 80))
    picture, boxes = crop(image, np.array([[150.0, 60, 170, 80]]), (270, 270))
    extent, _ = where(picture.point(lambda v: 255 * (v > 0xC0)), "#ff0000")
    np.testing.assert_allclose(np.add(extent, (0, 0, 1, 1)), boxes[0], atol=2)
    assert picture.size == (270, 270) and boxes[0, 2] - boxes[0, 0] == pytest.approx(200, rel=0.05)
