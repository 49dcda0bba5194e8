"""What a data set holds: objects of each class, their sizes, and how many an image has.

Dimension letters: n images, m boxes to train on, c classes.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from pse_jax.data.dataset import Dataset
from pse_jax.data.sampling import images_with


@dataclasses.dataclass(frozen=True)
class LabelStatistics:
    """Counts over the boxes that are trained on: crowd regions and degenerate boxes aside."""

    names: tuple[str, ...]
    objects: Int[np.ndarray, " c"]
    images: Int[np.ndarray, " c"]  # that show any
    median_side: Float[np.ndarray, " c"]  # px, the square root of a box's area; NaN without objects
    sides: Float[np.ndarray, " m"]  # px, of every box
    aspect: Float[np.ndarray, " m"]  # width / height
    per_image: Int[np.ndarray, " n"]  # objects
    crowds: int
    problems: dict[str, int]  # what was corrected or left out, and how often


def label_statistics(dataset: Dataset) -> LabelStatistics:
    """Counts what a data set holds, in the pixels of its files."""
    wh = (dataset.boxes_xyxy[:, 2:] - dataset.boxes_xyxy[:, :2]).astype(np.float64)
    sides, classes = np.sqrt(wh.prod(axis=1)), len(dataset.categories)
    order = np.argsort(dataset.labels, kind="stable")
    groups = np.split(sides[order], np.searchsorted(dataset.labels[order], range(1, classes)))
    return LabelStatistics(
        names=dataset.categories.unique_names,
        objects=np.bincount(dataset.labels, minlength=classes),
        images=images_with(dataset),
        median_side=np.array([np.median(g) if len(g) else np.nan for g in groups[:classes]]),
        sides=sides,
        aspect=wh[:, 0] / wh[:, 1],
        per_image=np.diff(dataset.offsets),
        crowds=int(dataset.crowd.sum()),
        problems=dict(dataset.problems),
    )
