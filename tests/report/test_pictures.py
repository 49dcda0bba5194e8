"""Boxes on images: which pixels a line covers, where labels stand, what is cut out."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from pse_jax.categories import Categories
from pse_jax.detector import Detections
from pse_jax.report import pictures
from pse_jax.report.pictures import DARK, PALETTE, TRUTH, crop, draw_boxes, draw_detections, sheet


def where(picture, colour):
    """The xyxy (inclusive) of the pixels of a colour, and the pixels."""
    mask = (np.asarray(picture) == ImageColor.getrgb(colour)).all(axis=-1)
    y, x = np.nonzero(mask)
    return (x.min(), y.min(), x.max(), y.max()), mask


def test_a_line_covers_the_outermost_pixels_of_its_box():
    grey = Image.new("RGB", (100, 80), "#777777")
    box = np.array([[10.0, 20.0, 40.0, 60.0]])
    picture = draw_boxes(grey, box, ["#ff0000"])  # one px wide on so small a picture
    extent, red = where(picture, "#ff0000")
    assert extent == (10, 20, 39, 59) and red.sum() == 2 * 30 + 2 * 38
    assert where(picture, DARK)[0] == (9, 19, 40, 60)  # the edge, on both sides
    assert np.asarray(grey).max() == 0x77  # a copy was drawn on


def test_lines_grow_with_the_picture_and_stay_inside():
    box = np.array([[-5.0, 300.0, 1100.0, 800.0]])
    picture = draw_boxes(Image.new("RGB", (960, 960)), box, ["#ff0000"])
    extent, red = where(picture, "#ff0000")
    assert extent == (0, 298, 959, 801)
    assert red[:, 500].sum() == 2 * 4 and red[500].sum() == 2 * 4


def test_dashes_leave_gaps_in_which_other_lines_show():
    box = np.array([[20.0, 20.0, 220.0, 200.0]])
    both = np.concatenate([box, box])
    picture = draw_boxes(
        Image.new("RGB", (240, 240)), both, [TRUTH, "#ff0000"], dashed=[True, False]
    )
    white, red = where(picture, TRUTH)[1][20], where(picture, "#ff0000")[1][20]
    assert 60 < white.sum() < 120 and 25 < red.sum() < 100


def test_the_first_box_is_on_top():
    boxes = np.array([[20.0, 20, 60, 60], [20, 20, 60, 60]])
    picture = draw_boxes(Image.new("RGB", (80, 80)), boxes, ["#ff0000", "#00ff00"])
    assert where(picture, "#ff0000")[1].any()
    assert not (np.asarray(picture) == (0, 255, 0)).all(axis=-1).any()


@pytest.mark.parametrize(
    "box", [[0, 0, 30, 30], [290, 0, 300, 10], [0, 290, 5, 300], [299, 299, 300, 300]]
)
def test_labels_stay_inside_the_picture(box):
    boxes, black = np.array([box], np.float32), Image.new("RGB", (300, 300))
    bare, picture = (draw_boxes(black, boxes, ["#00ff00"], labels) for labels in ([], ["zebra 1"]))
    changed = np.argwhere((np.asarray(bare) != np.asarray(picture)).any(axis=-1))
    height, width = np.ptp(changed, axis=0)
    assert width > 30 and height > 8  # the whole of it


def test_labels_of_boxes_on_one_spot_do_not_cover_each_other():
    boxes = np.array([[100.0, 100, 200, 200]] * 4)
    colours = ["#ff0000", "#00ff00", "#ffff00", "#00ffff"]
    picture = draw_boxes(Image.new("RGB", (300, 300)), boxes, colours, ["dog 0.5"] * 4)
    areas = [where(picture, colour)[1] for colour in colours]
    labels = [area[:, :100].sum() + area[:, 201:].sum() + area.sum() for area in areas]
    assert min(labels) > 200  # each background is to be seen
    assert not (areas[0] & areas[1]).any()


def test_every_colour_can_carry_letters():
    for colour in PALETTE:
        picture = draw_boxes(
            Image.new("RGB", (99, 99)), np.array([[9.0, 40, 90, 90]]), [colour], ["ab"]
        )
        ink = DARK if ImageColor.getcolor(colour, "L") > 100 else "#ffffff"
        assert where(picture, ink)[1][20:40].any()


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
