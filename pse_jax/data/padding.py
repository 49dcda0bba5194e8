"""The canvas that a detector puts an image on: of few sizes, and of that image's alone.

Evaluation, `Detector` and exported models all pad by this table, so that what is found in an image
depends neither on where it is looked for nor on other images. Training has buckets: `plan.py`.
"""

import functools

from pse_jax.points import ALIGNMENT

CANVAS_STEPS = 5  # lengths of a canvas's side: fifths of the longest, for 800/1333 px 288 to 1344


@functools.lru_cache(maxsize=8)
def canvas_sides(longest: int) -> tuple[int, ...]:
    """The lengths, ascending, that a canvas's side may have: fifths of `longest`, aligned.

    Up to twice the longest: the rule "fcos" may overshoot it, but not by so much
    (`transforms.resized_hw`).
    """
    fifths = (longest * k / CANVAS_STEPS for k in range(1, 2 * CANVAS_STEPS + 1))
    return tuple(sorted({int(-(-fifth // ALIGNMENT) * ALIGNMENT) for fifth in fifths}))


def canvas_hw(hw: tuple[int, int], longest: int) -> tuple[int, int]:
    """The smallest canvas that holds an image, of `canvas_sides(longest)`."""
    sides = canvas_sides(longest)
    height, width = (next(side for side in sides if side >= length) for length in hw)
    return height, width
