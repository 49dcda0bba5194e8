"""Pictures made of boxes: sheets, cut-outs, detections over the ground truth."""

import numpy as np
import pytest
from PIL import Image

from pse_jax.categories import Categories
from pse_jax.detections import Detections
from pse_jax.drawing import PALETTE
from pse_jax.report import pictures
from pse_jax.report.pictures import beside_truth, captioned, cell_size, crop, sheet
from tests.test_drawing import where


def detections(scores=(0.9, 0.2)):
    return Detections(
        boxes_xyxy=np.array([[10.0, 10, 50, 40], [60.0, 10, 90, 40]], np.float32)[: len(scores)],
        scores=np.array(scores, np.float32),
        category_ids=np.array([7, 3])[: len(scores)],
        names=("kite", "dog")[: len(scores)],
        classes=np.array([1, 0])[: len(scores)],
    )


def test_ground_truth_is_drawn_dashed_on_the_left_in_the_same_colours():
    categories = Categories((3, 7), ("dog", "kite"))
    truth = np.array([[10, 10, 50, 40]], np.float32)
    image = Image.new("RGB", (100, 50), "#777777")
    picture = beside_truth(image, detections(), truth, np.array([1]), categories, size=400)
    strip = picture.height - 200
    assert picture.width == 804 and 10 < strip < 30
    kite, dog = (where(picture, PALETTE[k])[1] for k in (1, 0))
    assert not dog[:, :402].any() and dog[:, 404:].any()
    for left, whole in ((0, False), (404, True)):  # the left edge of the kite's box
        line = kite[strip + 48 : strip + 152, left + 40]
        assert line.all() == whole and line.any()


def test_without_ground_truth_there_is_one_picture():
    categories = Categories((3, 7), ("dog", "kite"))
    image = Image.new("RGB", (100, 50), "#777777")
    picture = beside_truth(image, detections(), None, None, categories, title="a.jpg")
    assert picture.width == 400
    nothing = detections(())
    assert beside_truth(image, nothing, None, None, categories, size=64).width == 64


def test_crowded_photos_get_larger_cells():
    sizes = [cell_size(n) for n in (0, 1, 4, 9, 20, 100)]
    assert sizes == [400, 400, 400, 600, 894, 1280]


def test_a_caption_is_cut_to_the_width():
    picture = captioned(Image.new("RGB", (60, 20)), "a very long name of a file.jpg: 7 found")
    assert picture.width == 60
    assert captioned(Image.new("RGB", (1, 20)), "abc").width == 1


def test_a_sheet_holds_every_picture():
    colours = ("#ff0000", "#00ff00", "#0000ff")
    sizes = ((40, 30), (30, 40), (40, 40))
    made = [Image.new("RGB", wh, c) for wh, c in zip(sizes, colours, strict=True)]
    for whole in (sheet(made, 2, gap=10), sheet(made, gap=10, width=100)):
        assert whole.size == (100, 110)
        for (width, height), colour in zip(sizes, colours, strict=True):
            (x0, y0, x1, y1), mask = where(whole, colour)
            assert (x1 - x0 + 1, y1 - y0 + 1) == (width, height) and mask.sum() == width * height
    assert sheet(made[:1], 4, gap=10).size == (60, 50)
    assert sheet(made, gap=10, width=10).size == (60, 150)  # each wider than the sheet


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
