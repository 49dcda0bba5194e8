"""From pixels to named boxes."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from pse_jax import models
from pse_jax.categories import Categories
from pse_jax.config import Config, InferenceConfig
from pse_jax.data import transforms
from pse_jax.data.padding import canvas_hw
from pse_jax.detections import Detections, Thresholds
from pse_jax.detector import Detector, compiled
from pse_jax.errors import ImageError
from pse_jax.models import Predictions
from pse_jax.points import locations
from tests import tiny, tiny_run

SHAPE = (64, 96)

# With a network that says what it is told.


def one_box(*_):
    """The box (12, 4, 44, 20), seen from the location (20, 12)."""
    points, _ = locations(*SHAPE)
    here = (points == [20, 12]).all(axis=1)
    logits = jnp.where(jnp.asarray(here), 3.0, -9.0)[None, :, None]
    distances = jnp.tile(jnp.asarray([8.0, 8, 24, 8]), (1, len(points), 1))
    return Predictions(logits, distances)


def test_each_axis_is_scaled_by_its_own_factor(monkeypatch):
    """An image of 300 x 100 px that was resized to 60 x 50: boxes grow by 5 in x and 2 in y."""
    monkeypatch.setattr(models.FCOS, "apply", one_box)
    config = Config(inference=InferenceConfig(top_k=10))
    detector = Detector(config, Categories((7,), ("box",)), {})
    batch = {
        "image": np.zeros((1, *SHAPE, 3), np.uint8),
        "size_hw": np.array([[50, 60]], np.int32),
        "original_hw": np.array([[100, 300]], np.int32),
        "image_valid": np.ones(1, bool),
    }
    found = detector.detect(batch)
    assert found.valid.sum() == 1
    np.testing.assert_allclose(found.boxes_xyxy[0, 0], [60, 8, 220, 40])


# A detector of random parameters, called as people call it.


@pytest.fixture(scope="module")
def detector():
    config = tiny_run.config("unused")
    data = config.data
    data.short_side, data.long_side = 64, 96
    model = models.create(config.model, 3)
    variables = tiny.make_variables(model)
    return Detector(config, Categories((2, 5, 9), ("ant", "bee", "cat")), variables, step=7)


def picture(rng, width, height):
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def assert_same(a, b):
    for name in ("boxes_xyxy", "scores", "category_ids"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.names == b.names


def test_a_path_an_image_and_an_array_give_the_same(detector, rng, tmp_path):
    image = picture(rng, 90, 60)
    image.save(tmp_path / "a.png")
    found = detector(image)
    assert len(found) == len(found.names) > 0
    assert found.boxes_xyxy.shape == (len(found), 4) and found.boxes_xyxy.dtype == np.float32
    assert (np.diff(found.scores) <= 0).all() and set(found.category_ids) <= {2, 5, 9}
    names = {2: "ant", 5: "bee", 9: "cat"}
    assert found.names == tuple(names[i] for i in found.category_ids)
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), np.asarray(image)):
        assert_same(detector(same), found)


def test_boxes_are_in_the_pixels_of_each_image(detector, rng):
    """An image and the same one twice as large are resized to the same pixels."""
    small = picture(rng, 48, 32)
    big = Image.fromarray(np.asarray(small).repeat(4, axis=0).repeat(4, axis=1))
    shrunk = big.resize((96, 64), Image.Resampling.BILINEAR)  # as the rule "fcos" does
    at_size, at_big = detector(shrunk), detector(big)
    np.testing.assert_array_equal(at_big.scores, at_size.scores)
    np.testing.assert_allclose(at_big.boxes_xyxy, 2 * at_size.boxes_xyxy, rtol=1e-6)
    assert at_big.boxes_xyxy.max() <= 192 and at_big.boxes_xyxy[:, 3].max() <= 128


def test_a_list_of_any_sizes_is_in_its_order(detector, rng):
    sizes = [(90, 60), (60, 90), (64, 64)] * 3 + [(90, 60)] * 7
    images = [picture(rng, *size) for size in sizes]
    for image, found in zip(images, detector(images), strict=True):
        alone = detector(image)
        assert found.names == alone.names
        # Eight images at once are another program than one.
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)
        np.testing.assert_allclose(found.boxes_xyxy, alone.boxes_xyxy, atol=1e-3)
    assert detector([]) == []


def test_few_programs_are_compiled():
    """Whatever the size of the image, and at most nine for the paper's 800 and 1333 px."""
    rng = np.random.default_rng(0)
    canvases = set()
    for width, height in rng.integers(8, 4000, (2000, 2)).tolist():
        hw = transforms.resized_hw(height, width, 800, 1333)
        canvas = canvas_hw(hw, 1333)
        assert canvas[0] >= hw[0] and canvas[1] >= hw[1] and canvas[0] % 32 == canvas[1] % 32 == 0
        if max(hw) <= 1333:  # the rule overshoots for very long images
            canvases.add(canvas)
    assert len(canvases) <= 9
    sides = set()
    for long in range(1333, 3_000_000, 9_973):  # 1 px high
        hw = transforms.resized_hw(1, long, 800, 1333)
        sides |= {*canvas_hw(hw, 1333)}
        assert sides <= {288, 544, 800, 1088, 1344, 1600, 1888, 2144, 2400, 2688}


def test_an_image_is_padded_as_in_training_where_it_can_be():
    trained = ((800, 1344), (1088, 800), (1344, 1344))
    expected = {
        (800, 1066): (800, 1344),  # not 800x1088: the network knows no such canvas
        (1066, 800): (1088, 800),
        (1200, 800): (1344, 1344),
        (1345, 300): (1600, 544),  # none holds it
    }
    for hw, canvas in expected.items():
        assert canvas_hw(hw, 1333, trained) == canvas == canvas_hw(hw, 1333, trained[::-1])


def test_detectors_of_one_configuration_share_their_program(detector):
    other = dataclasses.replace(detector, variables=dict(detector.variables), step=8)
    programs = [compiled(d._key, len(d.categories), None) for d in (detector, other)]
    assert programs[0] is programs[1]


def test_threads_may_share_a_detector(detector, rng):
    images = [picture(rng, 90, 60) for _ in range(8)]
    one_by_one = [detector(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(pool.map(detector, images), one_by_one, strict=True):
            assert_same(a, b)


def test_a_picture_that_lies_on_its_side_is_turned_upright(detector, rng, tmp_path):
    image, turned = picture(rng, 90, 60), Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "a.png", exif=turned)
    assert_same(detector(tmp_path / "a.png"), detector(image.transpose(Image.Transpose.ROTATE_270)))


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 4), np.uint8), r"an array of type uint8 and shape \(4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "an array of type float32"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (7, "not a int"),
        ("none.jpg", "none.jpg cannot be read: No such file"),
        (__file__, "test_detector.py cannot be decoded: it is not an image"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ImageError, match=message):
        transforms.pixels_of(image)


def test_detections_can_be_read_and_filtered():
    found = Detections(
        np.array([[1.0, 2, 30, 40], [0, 0, 5, 5]], np.float32),
        np.array([0.9, 0.25], np.float32),
        np.array([5, 2]),
        ("bee", "ant"),
    )
    assert str(found).splitlines()[0].split() == ["bee", "0.90", "1.0", "2.0", "30.0", "40.0"]
    assert found.above(0.5).names == ("bee",) and len(found.above(0.95)) == 0
    assert str(found.above(0.95)) == ""


def test_a_threshold_may_differ_by_class():
    found = Detections(
        np.zeros((4, 4), np.float32),
        np.array([0.9, 0.6, 0.5, 0.4], np.float32),
        np.array([5, 2, 5, 9]),
        ("bee", "ant", "bee", "cat"),
        np.array([1, 0, 1, 2]),
    )
    thresholds = Thresholds(0.45, {"ant": 0.7, "bee": 0.5, "cat": None})
    limits = thresholds.of(Categories((2, 5, 9), ("ant", "bee", "cat")))
    assert limits == {2: 0.7, 5: 0.5, 9: 0.45}
    kept = found.above(limits)
    assert kept.names == ("bee", "bee") and kept.classes is not None
    assert kept.classes.tolist() == kept.groups == [1, 1]
    assert Thresholds(None, {}).of(Categories((2,), ("ant",))) == {2: 0.3}


def test_a_detector_without_an_evaluation_shows_what_scores_three_tenths(detector):
    assert detector.thresholds is None
    assert detector.best_thresholds == {2: 0.3, 5: 0.3, 9: 0.3}


def test_detections_are_drawn_on_the_image_that_they_are_of(detector, rng, tmp_path):
    image, turned = picture(rng, 90, 60), Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "a.png", exif=turned)
    found = detector(tmp_path / "a.png")
    upright = image.transpose(Image.Transpose.ROTATE_270)
    drawn = found.draw(tmp_path / "a.png", threshold=0.0)
    assert drawn.size == upright.size == (60, 90)
    assert (np.asarray(drawn) == np.asarray(found.draw(upright, threshold=0.0))).all()
    assert (np.asarray(drawn) != np.asarray(upright)).any()
    assert (np.asarray(found.draw(upright, threshold=1.0)) == np.asarray(upright)).all()
    assert found.draw(np.asarray(upright), at_least=360).size == (240, 360)


def test_images_of_every_mode_are_taken(detector, rng):
    image = picture(rng, 90, 60)
    grey = detector(image.convert("L"))
    for mode in ("LA", "RGBA", "I;16", "I", "F"):
        values = image.convert("L")
        if mode in ("I;16", "I"):  # the high byte
            deep = np.asarray(values).astype(np.uint16 if mode == "I;16" else np.int32) << 8
            same = Image.fromarray(deep)
        else:
            same = values.convert(mode)
        assert same.mode == mode
        assert_same(detector(same), grey)
    for mode in ("1", "P", "CMYK", "YCbCr"):
        assert_same(detector(image.convert(mode)), detector(image.convert(mode).convert("RGB")))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 5000)])
def test_images_of_every_size_are_taken(detector, size):
    found = detector(Image.new("RGB", size, "#456"))
    assert (found.boxes_xyxy >= 0).all() and (found.boxes_xyxy <= np.tile(size, 2)).all()
    assert found.draw(Image.new("RGB", size), threshold=0.0).size == size
