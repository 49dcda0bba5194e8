"""What was found in an image, and the scores from which on it is believed."""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from pse_jax.categories import Categories
from pse_jax.data import transforms
from pse_jax.drawing import draw_boxes

AnyImage = str | os.PathLike | Image.Image | UInt8[np.ndarray, "h w 3"]

THRESHOLD = 0.3  # the score from which on detections are shown where nothing better is known


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The scores of best F1 at IoU 0.5 on the data that a detector was evaluated on."""

    overall: float | None  # one for all classes; None where no detection was right
    per_class: Mapping[str, float | None]  # by the category's name, `Categories.unique_names`

    def of(self, categories: Categories) -> dict[int, float]:
        """The threshold of each category id: its own, else the one for all, else 0.3."""
        other = THRESHOLD if self.overall is None else self.overall
        own = [self.per_class.get(name) for name in categories.unique_names]
        return {i: other if t is None else t for i, t in zip(categories.ids, own, strict=True)}


@dataclasses.dataclass(frozen=True)
class Detections:
    """What was found in one image, best first."""

    boxes_xyxy: Float[np.ndarray, "d 4"]  # px of the image as given, exclusive
    scores: Float[np.ndarray, " d"]  # in [0, 1]
    category_ids: Int[np.ndarray, " d"]  # the data set's own
    names: tuple[str, ...]  # of the categories
    classes: Int[np.ndarray, " d"] | None = None  # numbers in the detector's `categories`

    def __len__(self) -> int:
        return len(self.scores)

    def __str__(self) -> str:
        rows = zip(self.names, self.scores, self.boxes_xyxy, strict=True)
        width = max(map(len, self.names), default=0)
        return "\n".join(
            f"{name:<{width}} {score:.2f}  " + " ".join(f"{value:7.1f}" for value in box)
            for name, score, box in rows
        )

    def above(self, score: float | Mapping[int, float]) -> "Detections":
        """Those with at least this score, or at least that of their category id."""
        low = score
        if isinstance(score, Mapping):
            low = np.array([score[int(i)] for i in self.category_ids])
        keep = np.flatnonzero(self.scores >= low)
        return Detections(
            self.boxes_xyxy[keep],
            self.scores[keep],
            self.category_ids[keep],
            tuple(self.names[i] for i in keep),
            None if self.classes is None else self.classes[keep],
        )

    def draw(
        self,
        image: AnyImage,
        *,
        threshold: float | Mapping[int, float] = THRESHOLD,
        exif: str = "apply",
        at_least: int = 0,
    ) -> Image.Image:
        """A copy of the image with these boxes, their class names and scores: see `drawing`.

        Args:
            image: the one that was given to the detector.
            threshold: the lowest score to draw, or by category id: `detector.best_thresholds`.
            exif: as the detector's `config.data.exif`.
            at_least: px of the longer side; a smaller image is enlarged first.

        Raises:
            ImageError: as `Detector`.
        """
        found = self.above(threshold)
        return draw_boxes(
            Image.fromarray(transforms.pixels_of(image, exif)),
            found.boxes_xyxy,
            found.labels,
            found.groups,
            at_least=at_least,
        )

    @property
    def groups(self) -> list[int]:
        """What decides on each box's colour: its class."""
        return (self.category_ids if self.classes is None else self.classes).tolist()

    @property
    def labels(self) -> list[str]:
        """What is written beside each box: "zebra 0.97"."""
        return [f"{n} {s:.2f}" for n, s in zip(self.names, self.scores, strict=True)]
