"""The resize in the ONNX graph against Pillow, to the bit."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from pse_jax.config import Config, DataConfig
from pse_jax.data import transforms
from pse_jax.data.padding import canvas_hw
from pse_jax.detector import prepare
from pse_jax.export.onnx import resize
from pse_jax.export.onnx.graph import Graph
from tests.export import graphs

RULES = ("fcos", "detectron2", "mmdet", "torchvision")


@pytest.fixture(autouse=True)
def pillow_alone(monkeypatch):
    """OpenCV, where it is installed, enlarges with other roundings: within one grey level."""
    monkeypatch.setattr(transforms, "cv2", None)


@functools.cache
def resizer(rule, short_side, long_side):
    """Pixels [b, 3, h, w], their size and their canvas's, of images."""
    data = DataConfig(resize=rule, short_side=short_side, long_side=long_side)
    g = Graph()
    given_hw = g("Shape", "images", start=1, end=3)
    image_hw = resize.resized_hw(g, given_hw, data)
    pixels = resize.resize(g, "images", given_hw, image_hw, rule)
    outputs = [pixels, image_hw, resize.canvas_hw(g, image_hw, data)]
    return graphs.runner(g, {"images": (TensorProto.UINT8, ["b", "h", "w", 3])}, outputs)


def assert_same(images, rule, short_side, long_side):
    data = DataConfig(resize=rule, short_side=short_side, long_side=long_side)
    pixels, image_hw, canvas = resizer(rule, short_side, long_side)(images=images)
    for image, found in zip(images, pixels, strict=True):
        expected = prepare(image, Config(data=data))
        assert tuple(image_hw) == expected.resized_hw
        assert tuple(canvas) == expected.canvas.shape[:2]
        height, width = expected.resized_hw
        np.testing.assert_array_equal(found.transpose(1, 2, 0), expected.canvas[:height, :width])


def pattern(kind, batch, height, width, seed):
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return rng.integers(0, 256, (batch, height, width, 3), np.uint8)
    if kind == "extremes":
        return (255 * rng.integers(0, 2, (batch, height, width, 3))).astype(np.uint8)
    return np.broadcast_to(
        rng.integers(0, 256, (batch, 1, 1, 3), np.uint8), (batch, height, width, 3)
    ).copy()


@settings(max_examples=60, deadline=None)
@given(
    rule=st.sampled_from(RULES),
    sides=st.sampled_from([(64, 96), (50, 83), (128, 128), (7, 90), (1, 40)]),
    batch=st.integers(1, 2),
    height=st.integers(1, 260),
    width=st.integers(1, 260),
    kind=st.sampled_from(["noise", "extremes", "flat"]),
    seed=st.integers(0, 99),
)
def test_pixels_are_those_of_pillow(rule, sides, batch, height, width, kind, seed):
    assert_same(pattern(kind, batch, height, width, seed), rule, *sides)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 2000), (700, 1100), (64, 96)])
def test_extreme_sizes(rule, size):
    assert_same(pattern("noise", 1, *size, 0), rule, 64, 96)


def sizes(rule, short_side, long_side, trained):
    """The sizes alone, of a size."""
    data = DataConfig(resize=rule, short_side=short_side, long_side=long_side)
    g = Graph()
    image_hw = resize.resized_hw(g, "hw", data)
    return graphs.runner(
        g,
        {"hw": (TensorProto.INT64, [2])},
        [image_hw, resize.canvas_hw(g, image_hw, data, trained)],
    )


@pytest.mark.parametrize("trained", [(), ((800, 1344), (1088, 800), (1344, 1344))])
@pytest.mark.parametrize("rule", RULES)
def test_sizes_are_those_of_the_rules(rule, trained):
    """Among them those that the rounding of a quotient decides, and those that overshoot."""
    sides = (800, 1333)
    run, rng = sizes(rule, *sides, trained), np.random.default_rng(0)
    some = rng.integers(1, 6000, (60, 2)).tolist()
    some += [[n, m] for n in (1, 3, 800, 1333) for m in (1, 480, 640, 9999)]
    for hw in some:
        image_hw, canvas = run(hw=np.array(hw, np.int64))
        expected = transforms.resized_hw(*hw, *sides, rule)
        assert tuple(image_hw) == expected, hw
        assert tuple(canvas) == canvas_hw(expected, max(sides), trained), hw
