"""Which locations answer for which boxes, found by the training's own `assign`."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from pse_jax.config import Config, TargetConfig
from pse_jax.data import transforms
from pse_jax.points import STRIDES, locations
from pse_jax.targets import assign

FEWEST = 64  # locations of a compiled program


@dataclasses.dataclass(frozen=True)
class Assigned:
    """Positive locations of an image: where they lie, on which level, for which box they answer."""

    points_xy: Float[np.ndarray, "p 2"]  # px of the resized image
    levels: Int[np.ndarray, " p"]  # 0 for P3
    boxes: Int[np.ndarray, " p"]  # numbers of the boxes


class Assigner:
    """Assigns the boxes of images on one canvas.

    A location is assigned without regard to the others, so only those inside a box, on a level
    that its size allows, are looked at: a few hundred of the 20,000 of a COCO image.
    """

    def __init__(self, canvas_hw: tuple[int, int], config: Config):
        self.config = config.targets
        self.points_xy, self.levels = locations(*canvas_hw, config.model.grid)
        self.lines = []  # of each level: its first location, and the x of columns and y of rows
        for level in range(len(STRIDES)):
            which = np.flatnonzero(self.levels == level)
            x, y = (np.unique(self.points_xy[which, axis]) for axis in (0, 1))
            self.lines.append((which[0], x, y))

    def __call__(self, boxes_xyxy: Float[np.ndarray, "k 4"]) -> Assigned:
        """The positive locations of an image with these boxes, in px after resizing."""
        near = self._near(boxes_xyxy)
        slots = 1 << max(len(boxes_xyxy) - 1, 0).bit_length()  # powers of two: few programs
        rows = max(FEWEST, 1 << max(len(near) - 1, 0).bit_length())
        padded = transforms.pad_boxes(boxes_xyxy, np.zeros(len(boxes_xyxy), np.int32), slots)
        filled = np.concatenate([near, np.zeros(rows - len(near), int)])
        assign_all = _compiled(tuple(self.config.size_bounds), self.config.center_radius)
        positive, matched = assign_all(
            self.points_xy[filled], self.levels[filled], *padded.values()
        )
        positive = np.asarray(positive)[: len(near)]
        return Assigned(
            self.points_xy[near][positive],
            self.levels[near][positive],
            np.asarray(matched)[: len(near)][positive],
        )

    def counts(self, boxes_xyxy: Float[np.ndarray, "k 4"]) -> Int[np.ndarray, "k 5"]:
        """The number of locations that answer for each box, on each level."""
        found, width = self(boxes_xyxy), len(STRIDES)
        cells = found.boxes * width + found.levels
        return np.bincount(cells, minlength=len(boxes_xyxy) * width).reshape(-1, width)

    def _near(self, boxes_xyxy: Float[np.ndarray, "k 4"]) -> Int[np.ndarray, " p"]:
        """Locations inside a box, on levels where the largest distance to an edge may be in range.

        That is at most the longer side, and at least half of it, but for rounding.
        """
        longer = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).max(axis=1, initial=0)
        bounds = (0.0, *self.config.size_bounds, np.inf)
        chosen = [np.zeros(0, int)]
        for level, (first, x, y) in enumerate(self.lines):
            fits = (longer + 1 >= bounds[level]) & (longer / 2 - 1 <= bounds[level + 1])
            for x0, y0, x1, y1 in boxes_xyxy[fits].tolist():
                columns = np.arange(*np.searchsorted(x, (x0, x1)))
                rows = np.arange(*np.searchsorted(y, (y0, y1)))
                chosen.append((first + rows[:, None] * len(x) + columns).reshape(-1))
        return np.unique(np.concatenate(chosen))


@lru_cache
def _compiled(
    size_bounds: tuple[int, int, int, int], center_radius: float
) -> Callable[..., tuple[Array, Array | None]]:
    """`assign`, compiled; for each location whether it is positive, and the number of its box."""
    config = TargetConfig(size_bounds, center_radius)

    @jax.jit
    def assigned(
        points_xy: Array, levels: Array, boxes: Array, labels: Array, valid: Array
    ) -> tuple[Array, Array | None]:
        targets = assign(points_xy, levels, boxes, labels, valid, config)
        return targets.positive, targets.matched

    return assigned
