"""An evaluation's detections beside the ground truth: what the page of a run is made from.

Dimension letters: i images, c classes, d detections.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pse_jax.evaluation.arrays import Bools, Floats, GroundTruth, Results
from pse_jax.evaluation.calibration import Operating, operating_points
from pse_jax.evaluation.matching import Matches, best_of, match, overlaps, select
from pse_jax.evaluation.precision import object_counts


@dataclasses.dataclass(frozen=True)
class Judged:
    """The numbers of an evaluation, its detections, and what each of them lies on."""

    step: int
    numbers: dict[str, Any]  # of eval_STEP.json
    truth: GroundTruth
    found: Results
    ious: Floats  # with the best object of its class, as in `matching.best_iou`
    matches: Matches  # at IoU 0.5
    overall: Operating  # the one threshold of best F1
    per_class: list[Operating]  # each class's own

    @property
    def counted(self) -> Bools:
        """The detections that COCO doesn't ignore."""
        return ~self.matches.ignored

    @property
    def objects(self) -> Int[np.ndarray, "c"]:
        """How many objects each class has, crowds aside."""
        return object_counts(self.truth)

    @property
    def threshold(self) -> float:
        """The score from which detections are shown: of best F1, or 0 where none is right."""
        return 0.0 if np.isnan(self.overall.threshold) else self.overall.threshold


def judge(step: int, numbers: dict[str, Any], truth: GroundTruth, found: Results) -> Judged:
    """Matches the detections of an evaluation with the objects, and finds the best thresholds."""
    pairs = overlaps(truth, found, same_class=True)
    matches = match(truth, found, pairs)
    ious = best_of(select(pairs, ~truth.crowd[pairs.object]), len(found))[1]
    overall, per_class = operating_points(truth, found, matches)
    return Judged(step, numbers, truth, found, ious, matches, overall, per_class)


@dataclasses.dataclass(frozen=True)
class ImageScores:
    """How well the detections of each image above a threshold fit its objects, at IoU 0.5."""

    f1: Float[np.ndarray, "i"]  # 2 TP / (2 TP + FP + missed); NaN where there is nothing at all
    correct: Int[np.ndarray, "i"]
    wrong: Int[np.ndarray, "i"]
    missed: Int[np.ndarray, "i"]


def image_scores(judged: Judged, threshold: float) -> ImageScores:
    """F1 of every image with one score threshold for all classes.

    COCO's greedy matching takes detections by descending score, so those below the threshold
    change nothing of the others' matches.
    """
    truth, found, images = judged.truth, judged.found, len(judged.truth.image_ids)
    shown = found.scores >= threshold
    correct = np.bincount(found.image[shown & judged.matches.correct], minlength=images)
    wrong = np.bincount(found.image[shown & judged.matches.wrong], minlength=images)
    missed = np.bincount(truth.image[~truth.crowd], minlength=images) - correct
    whole = 2 * correct + wrong + missed
    f1 = np.divide(2.0 * correct, whole, out=np.full(images, np.nan), where=whole > 0)
    return ImageScores(f1, correct, wrong, missed)


def choose_images(scores: ImageScores, count: int) -> dict[str, Int[np.ndarray, "_"]]:
    """The `count` best, typical and worst images by F1; no image twice.

    Among equal F1 the image with more objects found is better, and the one with more errors worse;
    typical are those in the middle of that order. Images without objects and detections are left
    out. Best and worst begin with the extreme.
    """
    errors = scores.wrong + scores.missed
    order = np.lexsort((scores.correct, -errors, scores.f1))
    order = order[~np.isnan(scores.f1[order])]
    count = min(count, len(order) // 3) or min(count, len(order))
    rest = order[: len(order) - count]
    worst, middle = rest[:count], rest[count:]
    start = max(len(middle) - count, 0) // 2
    typical = middle[start : start + count]
    return {"best": order[::-1][:count], "typical": typical[::-1], "worst": worst}
