"""Does a score mean what it says? Scores as predictions of IoU, and the best threshold."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from pse_jax.errors import ResultsError
from pse_jax.evaluation.arrays import Bools, Floats, GroundTruth, Ints, Results
from pse_jax.evaluation.matching import Matches, match, overlaps
from pse_jax.evaluation.precision import CAP, highest, object_counts

NAN = float("nan")
BINS = 25  # Oksuz et al., CVPR 2023, sec. 5


@dataclasses.dataclass(frozen=True)
class Quality:
    """What the scores of the detections are held against: see `own_iou`."""

    iou: Floats  # with the object that the detection is matched with; 0 for none
    counted: Bools  # the detections that are judged at all


def own_iou(ground_truth: GroundTruth, detections: Results) -> Quality:
    """The quality that LaECE0 and LaACE0 compare scores with (Kuzucu et al., ECCV 2024).

    COCO's greedy, exclusive matching at tau = 0: in each image and class, by descending score, a
    detection takes the free object that it overlaps most; a second box on an object has quality 0.
    Not counted: what finds no free object and lies on a crowd region of its class; what is beyond
    the 100 best of its class and image; and classes without objects. The authors' program does the
    same, but takes "IoU at least 0" at its word: a box that touches nothing takes a free object
    all the same, from boxes of lower scores. Here a match needs an overlap.
    """
    pairs = overlaps(ground_truth, detections, same_class=True)
    matches = match(ground_truth, detections, pairs, threshold=0.0)
    iou = np.zeros(len(detections))
    own = matches.correct[pairs.detection] & (matches.object[pairs.detection] == pairs.object)
    iou[pairs.detection[own]] = pairs.iou[own]
    present = object_counts(ground_truth)[detections.category] > 0
    counted = ~matches.ignored & present & highest(detections, CAP)
    return Quality(iou, counted)


def require_probabilities(scores: Floats) -> None:
    """Raises `ResultsError` unless all scores lie in [0, 1]."""
    if scores.size and (scores.min() < 0 or scores.max() > 1):
        raise ResultsError(
            f"scores run from {scores.min():.4g} to {scores.max():.4g}: the reliability diagram "
            "and LaECE need probabilities in [0, 1]; apply the detector's sigmoid or softmax"
        )


def bin_of(scores: Floats, bins: int = BINS) -> Ints:
    """The bin of every score: (low, high], of equal widths over [0, 1]; 0 belongs to the first."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    return np.maximum(np.searchsorted(edges, scores, side="left") - 1, 0)


def reliability(scores: Floats, quality: Floats, *, bins: int = BINS) -> dict[str, np.ndarray]:
    """The bins of a reliability diagram: `count`, mean `score`, mean `quality` (NaN if empty)."""
    require_probabilities(scores)
    index = bin_of(scores, bins)
    count = np.bincount(index, minlength=bins)
    means = {"count": count}
    for name, values in (("score", scores), ("quality", quality)):
        total = np.bincount(index, values, bins)
        means[name] = np.divide(total, count, out=np.full(bins, np.nan), where=count > 0)
    return means


def laece(
    category: Ints, scores: Floats, quality: Floats, categories: int, *, bins: int = BINS
) -> Float[np.ndarray, "{categories}"]:
    """Localisation-aware expected calibration error of every class, NaN without detections.

    LaECE_c = sum over bins j of |D_j|/|D| |mean score(j) - precision(j) x mean IoU of the true
    positives(j)| (Oksuz et al., "Towards Building Self-aware Object Detectors", CVPR 2023); the
    data set's is the mean over classes. precision x mean IoU is the mean of `quality`, the IoU of
    a true positive and 0 for any other. With the quality of `own_iou`, of the detections that it
    counts, this is LaECE0 (Kuzucu et al., ECCV 2024).
    """
    require_probabilities(scores)
    key = category * bins + bin_of(scores, bins)
    # |sum of scores - sum of qualities| in a bin is its count times the difference of the means.
    gap = np.abs(np.bincount(key, scores - quality, categories * bins)).reshape(categories, bins)
    count = np.bincount(category, minlength=categories)
    total = gap.sum(axis=1)
    return np.divide(total, count, out=np.full(categories, np.nan), where=count > 0)


def laace(
    category: Ints, scores: Floats, quality: Floats, categories: int
) -> Float[np.ndarray, "{categories}"]:
    """LaECE with a bin for every detection: the mean |score - quality| of each class (LaACE0)."""
    require_probabilities(scores)
    count = np.bincount(category, minlength=categories)
    total = np.bincount(category, np.abs(scores - quality), categories)
    return np.divide(total, count, out=np.full(categories, np.nan), where=count > 0)


@dataclasses.dataclass(frozen=True)
class Operating:
    """What keeping the detections with score >= `threshold` gives; NaN without ground truth."""

    threshold: float
    f1: float
    precision: float
    recall: float


def f1_curve(
    scores: Floats, correct: Bools, objects: int
) -> tuple[Float[np.ndarray, "t"], Float[np.ndarray, "t 3"]]:
    """Every distinct score, descending, and F1, precision and recall with it as the threshold.

    `correct` marks the true positives of COCO's greedy matching (`matching.match`), which takes
    detections by descending score: dropping those below a threshold leaves the others' matches.
    Detections on crowd regions must be left out before. F1 = 2 TP / (TP + FP + objects).
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True)[: len(ordered)])
    kept = last + 1.0
    right = np.cumsum(correct[order])[last]
    f1 = 2 * right / (kept + objects)
    return ordered[last], np.stack([f1, right / kept, right / max(objects, 1)], axis=1)


def best_threshold(scores: Floats, correct: Bools, objects: int) -> Operating:
    """The threshold of highest F1, the highest such threshold among equals."""
    if not objects:
        return Operating(NAN, NAN, NAN, NAN)
    if not correct.any():
        return Operating(NAN, 0.0, NAN, 0.0)  # no threshold helps
    thresholds, values = f1_curve(scores, correct, objects)
    index = int(np.argmax(values[:, 0]))
    return Operating(float(thresholds[index]), *(float(value) for value in values[index]))


def best_thresholds(truth: GroundTruth, found: Results) -> dict[str, Any]:
    """The scores of best F1 at IoU 0.5, `overall` and `per_class` by name; NaN if none helps."""
    matches = match(truth, found, overlaps(truth, found, same_class=True))
    overall, per_class = operating_points(truth, found, matches)
    names = truth.categories.unique_names
    thresholds = {name: best.threshold for name, best in zip(names, per_class, strict=True)}
    return {"overall": overall.threshold, "per_class": thresholds}


def operating_points(
    truth: GroundTruth, found: Results, matches: Matches
) -> tuple[Operating, list[Operating]]:
    """The best threshold for all classes together, and each class's own, of known matches."""
    counts, counted = object_counts(truth), ~matches.ignored

    def best(mine: Bools, objects: int) -> Operating:
        return best_threshold(found.scores[mine], matches.correct[mine], objects)

    per_class = [
        best(counted & (found.category == label), int(count)) for label, count in enumerate(counts)
    ]
    return best(counted, int(counts.sum())), per_class
