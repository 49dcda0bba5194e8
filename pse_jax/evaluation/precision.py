"""COCO's AP from arrays, for the evaluations that are many: oracles, and fixes of errors.

The same definition as pycocotools and, in tests, the same numbers to rounding, in a tenth of the
time: matching looks only at pairs that overlap enough. The AP of record stays pycocotools'.
"""

import numpy as np
from jaxtyping import Float, Int

from pse_jax.evaluation.arrays import Bools, GroundTruth, Ints, Results
from pse_jax.evaluation.matching import Pairs, match, select

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO
LEVELS = np.linspace(0.0, 1.0, 101)  # COCO: recall
CAP = 100  # COCO: detections per image and class


def coco_ap(ground_truth: GroundTruth, detections: Results, pairs: Pairs) -> dict[str, float]:
    """AP, AP50 and AP75 over objects of all sizes; `pairs` are those of `matching.overlaps`."""
    keep = highest(detections, CAP)
    mine = keep[pairs.detection]
    pairs = select(pairs, mine)
    objects = object_counts(ground_truth)
    values = []
    for threshold in THRESHOLDS.tolist():
        matches = match(ground_truth, detections, pairs, threshold=threshold)
        counted = keep & ~matches.ignored
        values.append(
            average_precision(detections, detections.category, matches.correct, counted, objects)
        )
    return {"AP": float(np.mean(values)), "AP50": values[0], "AP75": values[5]}


def object_counts(ground_truth: GroundTruth) -> Int[np.ndarray, "c"]:
    """How many objects each class has, crowds aside."""
    regular = ground_truth.category[~ground_truth.crowd]
    return np.bincount(regular, minlength=len(ground_truth.categories.ids))


def highest(detections: Results, cap: int) -> Bools:
    """The `cap` best-scored detections of every image and class, the first of equals."""
    order = np.lexsort((-detections.scores, detections.category, detections.image))
    image, category = detections.image[order], detections.category[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(image) != 0) | (np.diff(category) != 0)
    first = np.flatnonzero(new)
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    keep = np.empty(len(order), bool)
    keep[order] = rank < cap
    return keep


def average_precision(
    detections: Results, category: Ints, correct: Bools, keep: Bools, objects: Int[np.ndarray, "c"]
) -> float:
    """AP from known matches: 101 recall levels, the mean over classes that have objects.

    Args:
        detections: gives the order, by score; equals are in the order of images, as in pycocotools.
        category: the class that each detection counts for.
        correct: the true positives.
        keep: the detections that count at all.
        objects: how many objects each class has.
    """
    groups = by_class(detections, category, keep, len(objects))
    values = [
        at_levels(correct[rows], int(count))[0].mean()
        for rows, count in zip(groups, objects, strict=True)
        if count
    ]
    return float(np.mean(values)) if values else float("nan")


def by_class(
    detections: Results, category: Ints, keep: Bools, classes: int
) -> list[Int[np.ndarray, "_"]]:
    """The detections of each class by descending score, equals in the order of images."""
    order = np.lexsort((detections.image, -detections.scores))
    order = order[keep[order]]
    order = order[np.argsort(category[order], kind="stable")]
    return np.split(order, np.searchsorted(category[order], np.arange(1, classes)))


def at_levels(
    correct: Bools, objects: int
) -> tuple[Float[np.ndarray, "101"], Int[np.ndarray, "101"]]:
    """The highest precision at each recall level or beyond, 0 where recall does not reach it.

    Args:
        correct: of the detections of one class by descending score, which are true positives.
        objects: of that class, 1 or more.

    Returns:
        The precision, as pycocotools interpolates it, and the number of the detection with which
        recall reaches the level (`len(correct)`: never).
    """
    found = np.cumsum(correct)
    count = np.arange(1, len(correct) + 1)
    precision = found / (count + np.spacing(1))  # pycocotools: for the same bits
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(found / objects, LEVELS, side="left")
    return np.append(envelope, 0.0)[reached], reached
