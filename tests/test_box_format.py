"""Boxes in another format than COCO's are told by many of them together; right ones never are."""

from pathlib import Path

import numpy as np
import pytest
from coco_files import good
from hypothesis import given
from hypothesis import strategies as st

from pse_jax.data import coco
from pse_jax.data.box_format import require_format, wrong_format
from pse_jax.data.folder import Folder
from pse_jax.errors import DataError

SIZES = ((640, 480), (480, 640), (1000, 400), (300, 300))  # width and height
WRITTEN = {
    "[x1, y1, x2, y2]": lambda x, y, w, h: (x, y, x + w, y + h),
    "[y1, x1, y2, x2]": lambda x, y, w, h: (y, x, y + h, x + w),
    "[y, x, height, width]": lambda x, y, w, h: (y, x, h, w),
    "[centre x, centre y, width, height]": lambda x, y, w, h: (x + w / 2, y + h / 2, w, h),
}


def dataset(boxes, images=None, sizes=SIZES):
    """A data set of these boxes, xywh, the first in the first image, and so on round and round."""
    images = [n % len(sizes) for n in range(len(boxes))] if images is None else images
    content = {
        "images": [
            {"id": n + 1, "file_name": f"{n}.jpg", "width": width, "height": height}
            for n, (width, height) in enumerate(sizes)
        ],
        "annotations": [
            {"id": n, "image_id": int(image) + 1, "category_id": 7, "bbox": list(map(float, box))}
            for n, (box, image) in enumerate(zip(boxes, images, strict=True))
        ],
        "categories": good()["categories"],
    }
    return coco.build("<test>", content, lambda names, *_: Folder(Path("."), tuple(names)))


def right(seed, count, largest=0.6, one_size=None):
    """Boxes inside their images, log-uniform in size, as shares and in px."""
    rng = np.random.default_rng(seed)
    wh = np.exp(rng.uniform(np.log(0.03), np.log(largest), (count, 2)))
    xy = rng.uniform(0, 1, (count, 2)) * (1 - wh)
    shares = np.concatenate([xy, wh], axis=1)
    sides = np.array(SIZES * count)[:count] if one_size is None else np.array([one_size] * count)
    return shares, shares * np.tile(sides, 2)


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 120),
    largest=st.sampled_from((0.05, 0.3, 0.6, 1.0)),
    outside=st.sampled_from((0.0, 0.05, 0.3, 1.0)),
)
def test_right_boxes_never_are_called_wrong(seed, count, largest, outside):
    """Also where annotators have drawn over the edges of the image, up to every box a little."""
    _, boxes = right(seed, count, largest)
    rng = np.random.default_rng(seed)
    over = rng.random((count, 1)) < outside
    boxes = boxes + over * rng.uniform(-8, 8, (count, 4))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 2)
    assert list(wrong_format(dataset(boxes))) == []


def test_one_large_object_an_image_is_no_corner():
    """Width over x and height over y, as second corners are, but the boxes lie inside."""
    rng = np.random.default_rng(0)
    shares = np.concatenate([rng.uniform(0.1, 0.2, (40, 2)), rng.uniform(0.5, 0.8, (40, 2))], 1)
    assert list(wrong_format(dataset(shares * np.tile(np.array(SIZES * 10), 2)))) == []


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("seed", range(5))
def test_other_formats_are_named_with_the_remedy(name, seed):
    _, boxes = right(seed, 200)
    wrong = [WRITTEN[name](*box) for box in boxes]
    (said,) = wrong_format(dataset(wrong))
    assert "of 200 boxes reach over their images if read as [x, y, width, height]" in said
    assert f"but lie inside as {name}: write [" in said
    with pytest.raises(DataError, match="<test>: "):
        require_format(dataset(wrong))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_few_mistakes_among_many_hide_no_format(name):
    _, boxes = right(1, 1000)
    wrong = [WRITTEN[name](*box) for box in boxes]
    wrong[17] = (600, 300, 590, 400)
    assert f"lie inside as {name}" in " ".join(wrong_format(dataset(wrong)))


def test_corners_of_one_image_of_163_boxes():
    """Issue 10: 118 of 163 boxes were cut, and the data could be used."""
    _, boxes = right(3, 163, 0.3, one_size=(640, 480))
    wrong = [WRITTEN["[x1, y1, x2, y2]"](*box) for box in boxes]
    found = dataset(wrong, [0] * 163, [(640, 480)])
    out = sum(x + w > 1.01 * 640 + 1 or y + h > 1.01 * 480 + 1 for x, y, w, h in wrong)
    assert f"{out} of 163 boxes reach over their images" in next(wrong_format(found))


def test_four_wrong_boxes_are_too_few_to_tell():
    wrong = [(200, 200, 290, 290)] * 4
    assert list(wrong_format(dataset(wrong))) == []
    assert list(wrong_format(dataset(wrong * 2)))


def test_square_images_do_not_tell_swapped_axes():
    _, boxes = right(5, 200, one_size=(300, 300))
    wrong = [WRITTEN["[y, x, height, width]"](*box) for box in boxes]
    assert list(wrong_format(dataset(wrong, [0] * 200, [(300, 300)]))) == []


@pytest.mark.parametrize("count", [1, 3, 50])
@pytest.mark.parametrize("name", ["[x, y, width, height]", *WRITTEN])
def test_normalised_boxes_are_named_however_few(name, count):
    shares, _ = right(4, count)
    written = [WRITTEN.get(name, lambda *box: box)(*box) for box in shares]
    (said,) = wrong_format(dataset(written))
    assert "they seem to be normalised" in said and "multiply the first and third number" in said
    if count == 50 and not name.startswith("[y"):  # a unit square does not tell swapped axes
        assert f"normalised, {name} as shares" in said


def test_normalised_boxes_that_stick_out_a_little():
    shares, _ = right(4, 30)
    shares[3] = (0.8, 0.1, 0.25, 0.3)
    shares[4] = (0.01, 0.01, 1.02, 0.5)
    (said,) = wrong_format(dataset(shares))
    assert "no bbox has a number above 1.02" in said and "normalised, [x, y, width" in said


@pytest.mark.parametrize("boxes", [[], [(0, 0, 0, 0)] * 30, [(3, 4, 2, 2)] * 30])
def test_no_box_no_area_and_tiny_boxes_are_something_else(boxes):
    assert list(wrong_format(dataset(boxes))) == []
