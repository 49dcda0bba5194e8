"""Random changes of training images, against plain Python."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pse_jax.config import Config, DataConfig
from pse_jax.data import augment
from pse_jax.data.augment import Augment, Change

NONE = np.eye(3, dtype=np.float32)


def change(zoom=1.0, place=(0.0, 0.0), upside_down=False, matrix=NONE, contrast=1.0):
    return Change(zoom, place, upside_down, matrix, contrast)


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def test_a_crop_shifts_and_cuts_boxes_and_drops_what_is_mostly_outside():
    pixels = np.arange(40 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 60, 3)
    # zoom 2: a window of 20 x 30, of 20 and 30 px of room: it begins at (10, 15)
    window, left, remains = augment.crop(
        pixels,
        boxes((20, 15, 30, 25), (10, 5, 20, 15), (5, 5, 20, 20), (50, 30, 55, 35)),
        change(zoom=2.0, place=(0.5, 0.5)),
    )
    np.testing.assert_array_equal(window, pixels[10:30, 15:45])
    # inside; a quarter is seen: dropped; 5 x 10 of 15 x 15 are seen, two ninths: dropped; outside
    assert remains.tolist() == [True, False, False, False]
    np.testing.assert_array_equal(left, boxes((5, 5, 15, 15)))
    _, left, remains = augment.crop(pixels, boxes((10, 15, 20, 25)), change(2.0, (0.5, 0.5)))
    assert remains.tolist() == [True]  # half of it
    np.testing.assert_array_equal(left, boxes((0, 5, 5, 15)))


@given(
    zoom=st.floats(0.1, 10),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    hw=st.tuples(st.integers(1, 50), st.integers(1, 50)),
)
def test_a_crop_lies_inside_and_so_do_its_boxes(zoom, place, hw):
    pixels = np.zeros((*hw, 3), np.uint8)
    whole = boxes((0, 0, hw[1], hw[0]), (0, 0, hw[1] / 2, hw[0] / 2))
    window, left, remains = augment.crop(pixels, whole, change(zoom, place))
    height, width = window.shape[:2]
    assert 1 <= height <= hw[0] and 1 <= width <= hw[1] and len(left) == remains.sum()
    assert (left >= 0).all() and (left[:, 2] <= width).all() and (left[:, 3] <= height).all()
    if zoom <= 1:
        assert (height, width) == hw and remains.all()
        np.testing.assert_array_equal(left, whole)


def test_only_a_zoom_under_one_shrinks():
    assert augment.shrunk_hw((100, 60), change(zoom=0.5)) == (50, 30)
    assert augment.shrunk_hw((100, 60), change(zoom=3.0)) == (100, 60)
    assert augment.shrunk_hw((1, 60), change(zoom=0.1)) == (1, 6)


def test_upside_down_twice_is_as_before():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    one = boxes((1, 2, 3, 6))
    turned, moved = augment.upside_down(pixels, one)
    np.testing.assert_array_equal(moved, boxes((1, 1, 3, 5)))
    np.testing.assert_array_equal(turned[0], pixels[-1])
    np.testing.assert_array_equal(augment.upside_down(turned, moved)[1], one)


def drawn(seed=0, **values):
    data = DataConfig(**values)
    return [Augment(data, seed).draw(step, row) for step in range(40) for row in range(4)]


def test_colours_change_as_their_names_say():
    pixels = np.random.default_rng(1).integers(60, 180, (8, 9, 3), np.uint8)
    for one in drawn(brightness=0.3):
        factor = one.matrix[0, 0]
        assert 0.7 <= factor <= 1.3
        np.testing.assert_allclose(one.matrix, factor * np.eye(3), atol=1e-6)
        wanted = np.clip(pixels * np.float32(factor) + 0.5, 0, 255).astype(np.uint8)
        np.testing.assert_allclose(augment.recolour(pixels, one), wanted, atol=1)
    grey = np.full((4, 4, 3), 130, np.uint8)
    for one in drawn(saturation=1.0, hue=0.5):  # grey has no colour to change
        np.testing.assert_allclose(augment.recolour(grey, one), grey, atol=1)
    for one in drawn(contrast=0.5):
        changed = augment.recolour(pixels, one).astype(float)
        spread = changed.std() / pixels.std()
        assert abs(spread - one.contrast) < 0.05 and abs(changed.mean() - pixels.mean()) < 3


def test_hue_turns_the_colour_circle():
    """A third of a turn is red to green; Python's HSV has the same hue."""
    third = augment._hue(2 * np.pi / 3)
    np.testing.assert_allclose(third @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    colour = np.array([0.6, 0.4, 0.4])
    before, after = (colorsys.rgb_to_hsv(*c)[0] for c in (colour, third @ colour))
    assert after - before == pytest.approx(1 / 3)


def test_draws_are_a_function_of_seed_step_and_row_and_cover_their_range():
    everything = {"zoom": (0.5, 2.0), "flip_vertical": 0.5, "brightness": 0.2, "hue": 0.1}
    once, again, other = drawn(**everything), drawn(**everything), drawn(seed=1, **everything)
    assert [c.zoom for c in once] == [c.zoom for c in again] != [c.zoom for c in other]
    assert len({c.zoom for c in once}) == len(once)
    zooms = np.log([c.zoom for c in once])
    assert np.log(0.5) <= zooms.min() < np.log(0.6) and np.log(1.7) < zooms.max() <= np.log(2)
    assert abs(zooms.mean()) < 0.15  # as often larger as smaller
    assert 0.3 < np.mean([c.upside_down for c in once]) < 0.7
    np.testing.assert_array_equal(once[5].matrix, again[5].matrix)


def test_the_papers_recipe_has_none_of_it():
    assert not augment.wanted(Config().data)
    for field in ("flip_vertical", "brightness", "contrast", "saturation", "hue"):
        assert augment.wanted(DataConfig(**{field: 0.1}))
    assert augment.wanted(DataConfig(zoom=(1.0, 1.1)))
