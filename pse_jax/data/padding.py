"""The canvas that a detector puts an image on.

GroupNorm sees the padding. So an image is padded as in training where it can be, and alike by an
evaluation, `Detector` and exported models: what is found depends on nothing but the image.
"""

import functools

from pse_jax.points import ALIGNMENT

Canvases = tuple[tuple[int, int], ...]  # heights and widths, px, multiples of 32

CANVAS_STEPS = 5  # lengths of a canvas's side: fifths of the longest, for 800/1333 px 288 to 1344


@functools.lru_cache(maxsize=8)
def canvas_sides(longest: int) -> tuple[int, ...]:
    """The lengths, ascending, that a canvas's side may have: fifths of `longest`, aligned.

    Up to twice the longest: the rule "fcos" may overshoot it, but not by so much
    (`transforms.resized_hw`).
    """
    fifths = (longest * k / CANVAS_STEPS for k in range(1, 2 * CANVAS_STEPS + 1))
    return tuple(sorted({int(-(-fifth // ALIGNMENT) * ALIGNMENT) for fifth in fifths}))


def canvas_hw(hw: tuple[int, int], longest: int, trained: Canvases = ()) -> tuple[int, int]:
    """The smallest canvas that holds an image of a size.

    Args:
        hw: of the resized image.
        longest: side that the configuration allows.
        trained: the canvases of training (its buckets). If none holds the image, and for a detector
            of unknown training, the sides are of `canvas_sides(longest)`.
    """
    if fits := [canvas for canvas in trained if canvas[0] >= hw[0] and canvas[1] >= hw[1]]:
        return min(fits, key=order)
    sides = canvas_sides(longest)
    height, width = (next(side for side in sides if side >= length) for length in hw)
    return height, width


def order(canvas: tuple[int, int]) -> tuple[int, int]:
    """By which one canvas is smaller than another: area, then height."""
    return canvas[0] * canvas[1], canvas[0]
