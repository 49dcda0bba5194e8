"""Which classes a detector takes for which, in numbers of objects and detections."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from pse_jax.evaluation.arrays import GroundTruth, Results
from pse_jax.evaluation.matching import Pairs, greedy, overlaps, own_class, reaches, select

BACKGROUND = "background"


@dataclasses.dataclass(frozen=True)
class Confusion:
    """A row for the class of the object, a column for that of the detection; background is last.

    `counts[i, j]` objects of class i were found as class j. The last column counts the objects that
    were missed, the last row the detections that lie on no object; the last cell is 0. So the rows
    sum to the objects of each class, and the columns to its detections. Dimension letters: c
    classes, k = c + 1.
    """

    names: tuple[str, ...]  # of the classes
    counts: Int[np.ndarray, "k k"]
    iou: float
    thresholds: Float[np.ndarray, "c"]
    below: int  # detections left out: their score is under the threshold
    ignored: int  # detections left out: they lie on a crowd region of their class

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the rows and columns."""
        return (*self.names, BACKGROUND)

    @property
    def shares(self) -> Float[np.ndarray, "k k"]:
        """Each cell's share of its row; NaN in a row without any."""
        total = self.counts.sum(axis=1, keepdims=True)
        empty = np.full(self.counts.shape, np.nan)
        return np.divide(self.counts, total, out=empty, where=total > 0)

    def mistakes(self) -> list[tuple[str, str, int]]:
        """(true class, detected class, count) off the diagonal, background aside, largest first."""
        wrong = self.counts[:-1, :-1] * ~np.eye(len(self.names), dtype=bool)
        order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
        rows, columns = np.unravel_index(order, wrong.shape)
        return [
            (self.names[i], self.names[j], int(wrong[i, j]))
            for i, j in zip(rows, columns, strict=True)
        ]


def confusion_matrix(
    ground_truth: GroundTruth,
    detections: Results,
    *,
    threshold: float | Float[np.ndarray, "c"] = 0.0,
    iou: float = 0.5,
    pairs: Pairs | None = None,
) -> Confusion:
    """Matches detections with objects regardless of class, and counts the classes of both.

    By descending score (equals in the file's order) each detection takes the free object of highest
    IoU, at least `iou`; of equal IoUs one of its own class, then the later one. Every object and
    every detection that is kept counts once. Crowd regions are no objects; a detection that takes
    none and lies on a crowd region of its class is left out.

    Args:
        ground_truth: of a data set.
        detections: on it.
        threshold: the lowest score that is kept, of all classes or of each; NaN keeps none of a
            class, as where no threshold helps (`calibration.best_threshold`).
        iou: from which a detection may take an object.
        pairs: what `matching.overlaps` gives for the two without `same_class`, if it is known.
    """
    classes = len(ground_truth.categories)
    limits = np.broadcast_to(np.asarray(threshold, np.float64), classes)
    keep = detections.scores >= limits[detections.category]  # False for NaN
    if pairs is None:
        pairs = overlaps(ground_truth, detections, same_class=False)
    # A crowd region counts for detections of its own class alone.
    fits = ~ground_truth.crowd[pairs.object] | own_class(ground_truth, detections, pairs)
    usable = keep[pairs.detection] & fits & reaches(pairs, iou)
    matches = greedy(ground_truth, detections, select(pairs, usable))
    below, keep = int((~keep).sum()), keep & ~matches.ignored
    truth = np.append(ground_truth.category, classes)  # object -1 is the background
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(counts, (truth[matches.object[keep]], detections.category[keep]), 1)
    missed = ~ground_truth.crowd
    missed[matches.object[matches.correct]] = False
    counts[:-1, -1] = np.bincount(ground_truth.category[missed], minlength=classes)
    return Confusion(
        names=ground_truth.categories.unique_names,
        counts=counts,
        iou=iou,
        thresholds=limits.copy(),
        below=below,
        ignored=int(matches.ignored.sum()),
    )
