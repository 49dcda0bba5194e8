"""The resize inside an exported model, against Pillow's bits and Python's floats."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pse_jax.data import transforms
from pse_jax.export.resize import resize, resized_hw

SLOTS, CANVAS = 90, (70, 110)
BILINEAR = Image.Resampling.BILINEAR
RULES = ("fcos", "detectron2", "mmdet", "torchvision")


@pytest.fixture(scope="module")
def compiled():
    return jax.jit(resize, static_argnums=(3, 4))


def on_canvas(pixels):
    canvas = np.zeros((*CANVAS, 3), np.uint8)
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    return canvas


side = st.integers(1, SLOTS)


@settings(max_examples=60)
@given(
    h=side, w=side, to=st.tuples(st.integers(1, 70), st.integers(1, 110)), seed=st.integers(0, 99)
)
@example(h=90, w=90, to=(1, 1), seed=0)
@example(h=90, w=1, to=(7, 110), seed=0)  # tall, where Pillow 13 alone would do the columns first
@example(h=64, w=64, to=(64, 64), seed=0)
def test_it_is_pillow_to_the_bit(compiled, h, w, to, seed):
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (SLOTS, SLOTS, 3), np.uint8)  # with noise beyond the image
    image = frame[:h, :w] = rng.integers(0, 256, (h, w, 3), np.uint8)
    if seed % 2:
        image = frame[:h, :w] = rng.choice(np.array([0, 255], np.uint8), (h, w, 3))
    rows = Image.fromarray(image).resize((to[1], h), BILINEAR)
    expected = on_canvas(np.asarray(rows.resize(to[::-1], BILINEAR)))
    found = compiled(frame, jnp.array([h, w]), jnp.array(to), CANVAS, True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(on_canvas(transforms.resize(image, to, "fcos")), expected)


@settings(max_examples=40)
@given(h=side, w=side, to=st.tuples(st.integers(1, 70), st.integers(1, 110)))
def test_without_antialiasing_it_is_the_python_api_to_the_bit(compiled, h, w, to):
    frame = np.random.default_rng(h).integers(0, 256, (SLOTS, SLOTS, 3), np.uint8)
    expected = on_canvas(transforms.resize(frame[:h, :w], to, "mmdet"))
    found = compiled(frame, jnp.array([h, w]), jnp.array(to), CANVAS, False)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("short, long", [(800, 1333), (64, 96)])
def test_the_size_is_that_of_the_python_api(rule, short, long, rng):
    """Also where float64 misses a whole number: 800 / 49 * 49 is less than 800, and so 799 px."""
    small, any_size = rng.integers(1, 300, (3000, 2)), rng.integers(1, 32768, (2000, 2))
    square = np.tile(np.arange(1, 1500)[:, None], 2)
    hw = np.concatenate([small, any_size, square, square * [1, 2], square * [3, 1]])
    function = functools.partial(resized_hw, short_side=short, long_side=long, rule=rule)
    found = jax.jit(jax.vmap(function))(hw.astype(np.int32))
    expected = [transforms.resized_hw(*row, short, long, rule) for row in hw.tolist()]
    np.testing.assert_array_equal(found, expected)
    if rule == "torchvision" and short == 800:
        exact = np.minimum(square * 800 // square, 800)
        assert (np.array(expected)[5000:6499] != exact).any()
