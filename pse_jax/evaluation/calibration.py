"""Does a score mean what it says? Scores as predictions of IoU, and the best threshold."""

import dataclasses

import numpy as np
from jaxtyping import Float

from pse_jax.errors import ResultsError
from pse_jax.evaluation.arrays import Bools, Floats, Ints

NAN = float("nan")
BINS = 25  # Oksuz et al., CVPR 2023, sec. 5


def require_probabilities(scores: Floats) -> None:
    """Raises `ResultsError` unless all scores lie in [0, 1]."""
    if scores.size and (scores.min() < 0 or scores.max() > 1):
        raise ResultsError(
            f"scores run from {scores.min():.4g} to {scores.max():.4g}: the reliability diagram "
            "and LaECE need probabilities in [0, 1]; apply the detector's sigmoid or softmax"
        )


def bin_of(scores: Floats, bins: int = BINS) -> Ints:
    """The bin of every score, of equal widths over [0, 1]; 1 belongs to the last."""
    return np.minimum((scores * bins).astype(np.int64), bins - 1)


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
    a true positive and 0 for any other. With threshold tau = 0 (Kuzucu et al., ECCV 2024), the one
    used here, every overlapping detection counts and `quality` is the plain best IoU.
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
    """LaECE with a bin for every detection: the mean |score - quality| of each class."""
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
