"""Boxes on images: which pixels a line covers, where labels stand, which are left out."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageColor

from pse_jax.drawing import DARK, HIDES, NEUTRAL, PALETTE, WHITE, draw_boxes

BLUE, ORANGE, GREEN, YELLOW = PALETTE[:4]


def where(picture, colour):
    """The xyxy (inclusive) of the pixels of a colour, and the pixels."""
    mask = (np.asarray(picture) == ImageColor.getrgb(colour)).all(axis=-1)
    y, x = np.nonzero(mask)
    return (x.min(), y.min(), x.max(), y.max()), mask


def labelled(size, boxes, labels, groups=()):
    """The pixels that the labels change, and the picture."""
    black, boxes = Image.new("RGB", size), np.array(boxes, float)
    bare, picture = (draw_boxes(black, boxes, some, groups) for some in ([], labels))
    return (np.asarray(bare) != np.asarray(picture)).any(axis=-1), picture


def test_a_line_covers_the_outermost_pixels_of_its_box():
    grey = Image.new("RGB", (100, 80), "#777777")
    box = np.array([[10.0, 20.0, 40.0, 60.0]])
    picture = draw_boxes(grey, box)  # one px wide on so small a picture
    extent, blue = where(picture, BLUE)
    assert extent == (10, 20, 39, 59) and blue.sum() == 2 * 30 + 2 * 38
    assert where(picture, DARK)[0] == (9, 19, 40, 60)  # the edge, on both sides
    assert np.asarray(grey).max() == 0x77  # a copy was drawn on


def test_lines_grow_with_the_picture_and_stay_inside():
    box = np.array([[-5.0, 300.0, 1100.0, 700.0]])
    picture = draw_boxes(Image.new("RGB", (800, 800)), box)
    extent, blue = where(picture, BLUE)
    assert extent == (0, 298, 799, 701)
    assert blue[:, 500].sum() == 2 * 4 and blue[500].sum() == 2 * 4
    assert (where(draw_boxes(Image.new("RGB", (3000, 3000)), box), BLUE)[1][:, 500].sum()) == 2 * 15


def test_a_line_is_seen_on_every_background():
    """Beside each line pixel there is one of another brightness: WCAG's contrast of 3 at least."""

    def luminance(rgb):
        v = np.asarray(rgb) / 255
        linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for group in range(NEUTRAL, len(PALETTE)):
        for background in ("#000000", "#ffffff", PALETTE[group % 7]):
            picture = draw_boxes(
                Image.new("RGB", (60, 60), background), np.array([[20.0, 20, 40, 40]]), [], [group]
            )
            row = luminance(np.asarray(picture)[30, 15:30])
            contrast = (row.max() + 0.05) / (row.min() + 0.05)
            assert contrast >= 3


def test_dashes_leave_gaps_in_which_other_lines_show():
    box = np.array([[20.0, 20.0, 220.0, 200.0]])
    both = np.concatenate([box, box])
    picture = draw_boxes(
        Image.new("RGB", (240, 240)), both, groups=[NEUTRAL, 1], dashed=[True, False]
    )
    white, orange = where(picture, WHITE)[1][20], where(picture, ORANGE)[1][20]
    assert 60 < white.sum() < 120 and 25 < orange.sum() < 100


def test_the_first_box_is_on_top():
    boxes = np.array([[20.0, 20, 60, 60], [20, 20, 60, 60]])
    picture = draw_boxes(Image.new("RGB", (80, 80)), boxes, groups=[0, 1])
    assert where(picture, BLUE)[1].any()
    assert not (np.asarray(picture) == ImageColor.getrgb(ORANGE)).all(axis=-1).any()


@pytest.mark.parametrize(
    "box", [[0, 0, 30, 30], [290, 0, 300, 10], [0, 290, 5, 300], [299, 299, 300, 300]]
)
def test_labels_stay_inside_the_picture(box):
    changed = np.argwhere(labelled((300, 300), [box], ["zebra 1"])[0])
    height, width = np.ptp(changed, axis=0)
    assert width > 30 and height > 8  # the whole of it


def test_a_label_does_not_hide_its_object_or_its_neighbour():
    boxes = [[50, 50, 150, 150], [50, 20, 150, 48]]  # no room above the first
    changed, _ = labelled((300, 300), boxes, ["dog 0.5", ""])
    assert changed.any() and not changed[50:150, 50:150].any() and not changed[20:48, 50:150].any()


def test_a_box_as_large_as_the_picture_has_its_label_in_a_corner():
    changed, picture = labelled((300, 300), [[0, 0, 300, 300]], ["dog 0.5"])
    assert changed[:25, :120].any() and not changed[30:].any()
    assert "labels_left_out" not in picture.info


def test_labels_of_boxes_on_one_spot_do_not_cover_each_other():
    boxes = np.array([[100.0, 100, 200, 200]] * 4)
    picture = draw_boxes(Image.new("RGB", (300, 300)), boxes, ["dog 0.5"] * 4, [0, 1, 2, 3])
    areas = [where(picture, colour)[1] for colour in (BLUE, ORANGE, GREEN, YELLOW)]
    assert min(area.sum() for area in areas) > 300  # each background is to be seen


def test_where_there_is_no_room_labels_are_left_out_and_counted():
    """A mosaic of boxes without a gap: each may lose an eighth of itself at most."""
    boxes = [[x, y, x + 30, y + 30] for y in range(0, 300, 30) for x in range(0, 300, 30)]
    changed, picture = labelled((300, 300), boxes, ["elephant 0.50"] * 100)
    assert 0 < picture.info["labels_left_out"] <= 100
    for x0, y0, x1, y1 in boxes:
        assert changed[y0:y1, x0:x1].mean() <= HIDES + 0.01
    wide, sparse = labelled((900, 900), boxes[:2], ["elephant 0.50"] * 2)
    assert "labels_left_out" not in sparse.info and wide.any()


def test_the_first_label_of_each_group_is_placed_before_the_second_of_any():
    boxes = [[100, 100, 140, 140]] * 40  # more than there are places
    groups = [0] * 39 + [1]
    _, picture = labelled((240, 240), boxes, ["dog 0.5"] * 40, groups)
    assert picture.info["labels_left_out"] > 0
    assert where(picture, ORANGE)[1].sum() > 200


def test_every_colour_can_carry_letters():
    for group, colour in enumerate(PALETTE):
        picture = draw_boxes(
            Image.new("RGB", (99, 99)), np.array([[9.0, 40, 90, 90]]), ["ab"], [group]
        )
        ink = DARK if ImageColor.getcolor(colour, "L") > 100 else WHITE
        assert where(picture, ink)[1][20:40].any()


def test_a_tiny_image_is_enlarged_if_asked():
    tiny = Image.new("RGB", (16, 8), "#777777")
    box = np.array([[4.0, 2, 12, 6]])
    assert draw_boxes(tiny, box).size == (16, 8)
    picture = draw_boxes(tiny, box, ["cat 0.9"], at_least=640)
    assert picture.size == (640, 320)
    (x0, _, x1, y1), _ = where(picture, BLUE)
    assert abs(x0 - 160) <= 3 and abs(x1 - 479) <= 3 and abs(y1 - 239) <= 3
    assert draw_boxes(Image.new("L", (1, 1)), box, ["cat"], at_least=64).size == (64, 64)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (64, 48)])
def test_any_mode_and_size(mode, size):
    boxes = np.array([[0.0, 0, 1, 1], [-9, -9, 9999, 9999], [5, 5, 5, 5]])
    assert draw_boxes(Image.new(mode, size), boxes, ["a", "", "b"], [0, 1, 9]).size == size
    assert draw_boxes(Image.new(mode, size), np.zeros((0, 4))).mode == "RGB"


def test_drawing_needs_pillow_and_numpy_alone():
    code = (
        "import sys, pse_jax.drawing; pse_jax.drawing.font(12); "
        "assert not {'jax', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
