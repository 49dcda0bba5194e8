"""The score threshold that serves best, by F1 at IoU 0.5."""

import dataclasses

import numpy as np
from jaxtyping import Float

from pse_jax.evaluation.arrays import Bools, Floats

NAN = float("nan")


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
