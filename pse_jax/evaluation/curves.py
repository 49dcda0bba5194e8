"""Precision-recall curves of every class, by COCO's definition: 101 recall levels."""

import dataclasses

import numpy as np
from jaxtyping import Float

from pse_jax.evaluation.arrays import GroundTruth, Results
from pse_jax.evaluation.matching import Pairs, match, overlaps, select
from pse_jax.evaluation.precision import CAP, LEVELS, at_levels, by_class, highest, object_counts


@dataclasses.dataclass(frozen=True)
class Curves:
    """Precision at the recall levels 0, 0.01, ..., 1 of every class; NaN where it has no objects.

    Precision is COCO's: the highest at this recall or beyond, 0 where recall does not get there.
    Its mean over the levels is a class's AP at this IoU; `scores` holds the threshold that gives
    each point, NaN where there is none.
    """

    names: tuple[str, ...]
    iou: float
    precision: Float[np.ndarray, "c 101"]
    scores: Float[np.ndarray, "c 101"]

    @property
    def recall(self) -> Float[np.ndarray, "101"]:
        """The recall levels."""
        return LEVELS

    @property
    def mean(self) -> Float[np.ndarray, "101"]:
        """The mean precision over the classes that have objects; NaN if none has."""
        present = self.precision[~np.isnan(self.precision[:, 0])]
        return present.mean(axis=0) if len(present) else np.full(len(LEVELS), np.nan)

    @property
    def ap(self) -> Float[np.ndarray, "c"]:
        """The AP of every class at this IoU."""
        return self.precision.mean(axis=1)


def precision_recall(
    ground_truth: GroundTruth, detections: Results, *, iou: float = 0.5, pairs: Pairs | None = None
) -> Curves:
    """The curves at one IoU threshold, over objects of all sizes, as pycocotools computes them.

    Args:
        ground_truth: of a data set.
        detections: on it; the 100 best of an image and class count.
        iou: from which a detection is right.
        pairs: what `matching.overlaps` gives for the two, if it is known.
    """
    if pairs is None:
        pairs = overlaps(ground_truth, detections, same_class=True)
    keep = highest(detections, CAP)
    matches = match(ground_truth, detections, select(pairs, keep[pairs.detection]), threshold=iou)
    objects = object_counts(ground_truth)
    counted = keep & ~matches.ignored
    groups = by_class(detections, detections.category, counted, len(objects))
    precision, scores = np.full((2, len(objects), len(LEVELS)), np.nan)
    for label in np.flatnonzero(objects).tolist():
        rows = groups[label]
        precision[label], reached = at_levels(matches.correct[rows], int(objects[label]))
        scores[label] = np.append(detections.scores[rows], np.nan)[reached]
    return Curves(ground_truth.categories.unique_names, iou, precision, scores)
