"""Random changes of training images beyond the paper's flip: zoom with crop, mirror, colour.

All off in the paper's recipe; a few hundred photos of one's own need them (docs/training.md). What
happens to an image is a pure function of (seed, step, row), as everything about a batch.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pse_jax.config import DataConfig
from pse_jax.data.transforms import Boxes, Pixels, clip

SEEN = 0.3  # share of its area that must be left of an object at the edge of a crop
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of RGB (ITU-R BT.601)


@dataclasses.dataclass(frozen=True)
class Change:
    """What happens to one image."""

    zoom: float  # over 1: a window of 1/zoom of each side is magnified; under 1: it shrinks
    place: tuple[
        float, float
    ]  # of the window, down and across; 0: at the top or left, 1: at the end
    upside_down: bool
    matrix: Float[np.ndarray, "3 3"]  # of RGB
    contrast: float  # around the mean luminance, after the matrix

    @property
    def colour(self) -> bool:
        """Whether the colours change at all."""
        return self.contrast != 1 or not np.array_equal(self.matrix, np.eye(3))


class Augment:
    """The random changes that a configuration asks for."""

    def __init__(self, data: DataConfig, seed: int):
        self.data, self.seed = data, seed

    def draw(self, step: int, row: int) -> Change:
        """What happens to the image in a row of the batch of a step, counted from 0."""
        data, rng = self.data, np.random.default_rng((self.seed, 5, step, row))
        low, high = np.log(data.zoom)
        zoom = math.exp(rng.uniform(low, high))
        place = rng.uniform(), rng.uniform()
        upside_down = bool(rng.uniform() < data.flip_vertical)
        jitter = (data.brightness, data.contrast, data.saturation, data.hue)
        brightness, contrast, saturation, hue = (rng.uniform(-most, most) for most in jitter)
        matrix = _saturation(1 + saturation) @ _hue(2 * math.pi * hue) * (1 + brightness)
        return Change(zoom, place, upside_down, matrix.astype(np.float32), 1 + contrast)


def wanted(data: DataConfig) -> bool:
    """Whether a configuration asks for any of these changes."""
    numbers = (data.flip_vertical, data.brightness, data.contrast, data.saturation, data.hue)
    return any(numbers) or data.zoom != (1.0, 1.0)


def crop(
    pixels: Pixels, boxes_xyxy: Boxes, change: Change
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Float[np.ndarray, "k 4"], Bool[np.ndarray, " n"]]:
    """The window that is magnified: its pixels, the boxes in it, and which objects remain.

    An object remains if the window shows at least `SEEN` of its box, which is cut to the window.
    """
    height, width = pixels.shape[:2]
    h, w = (max(1, round(side / max(change.zoom, 1))) for side in (height, width))
    top, left = (
        round(p * room) for p, room in zip(change.place, (height - h, width - w), strict=True)
    )
    shifted = boxes_xyxy - np.tile(np.array([left, top], np.float32), 2)
    cut = clip(shifted, (h, w))
    remains = _area(cut) >= SEEN * _area(shifted)
    return pixels[top : top + h, left : left + w], cut[remains], remains


def shrunk_hw(hw: tuple[int, int], change: Change) -> tuple[int, int]:
    """The size to which an image is resized: `hw`, or less if it shrinks; the rest is padding."""
    height, width = (max(1, round(side * min(change.zoom, 1))) for side in hw)
    return height, width


def recolour(pixels: Pixels, change: Change) -> Pixels:
    """The colours changed: hue and saturation, brightness, then contrast."""
    if not change.colour:
        return pixels
    values = pixels.astype(np.float32) @ change.matrix.T
    mean = float((values @ LUMINANCE).mean())
    values -= mean  # in place: fresh memory for each of these would take most of the time
    values *= change.contrast
    values += mean
    values += 0.5
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def upside_down(pixels: Pixels, boxes_xyxy: Boxes) -> tuple[Pixels, Boxes]:
    """Top becomes bottom: y' = height - y for exclusive boxes."""
    height = np.float32(pixels.shape[0])
    mirrored = boxes_xyxy.copy()
    mirrored[:, [1, 3]] = height - boxes_xyxy[:, [3, 1]]
    return pixels[::-1], mirrored


def _area(boxes_xyxy: Boxes) -> Float[np.ndarray, " n"]:
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])


def _saturation(factor: float) -> Float[np.ndarray, "3 3"]:
    """Between grey, 0, and colours as they are, 1."""
    return factor * np.eye(3) + (1 - factor) * np.tile(LUMINANCE, (3, 1))


def _hue(angle: float) -> Float[np.ndarray, "3 3"]:
    """A rotation of RGB about the grey axis (Rodrigues' formula)."""
    cos, sin = math.cos(angle), math.sin(angle)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return cos * np.eye(3) + sin * cross + (1 - cos) / 3 * np.ones((3, 3))
