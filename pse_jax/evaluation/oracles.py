"""The numbers of an evaluation, and ranking oracles: the same boxes with better scores.

An oracle shows how much AP is lost in ranking alone.

Neither is a strict upper bound: a second well-placed box on an object still ranks above another
object's only box, and AP counts it as wrong. After NMS that costs little.
"""

import dataclasses
from typing import Any

import numpy as np

from pse_jax.evaluation.arrays import Floats, GroundTruth, Results
from pse_jax.evaluation.calibration import best_thresholds
from pse_jax.evaluation.coco import evaluate_coco
from pse_jax.evaluation.correlation import correlations
from pse_jax.evaluation.matching import best_iou
from pse_jax.evaluation.measure import Examined
from pse_jax.evaluation.precision import coco_ap


def with_iou_scores(detections: Results, ious: Floats) -> Results:
    """The same boxes, each with its true IoU as its score ("GT-IoU" of VarifocalNet, table 1)."""
    return dataclasses.replace(detections, scores=np.array(ious, np.float64))


def with_transported_scores(detections: Results, ious: Floats) -> Results:
    """The existing scores of the whole data set, handed out again in the order of true IoU.

    The highest score goes to the highest IoU: the distribution of scores stays, only their order
    changes (the paper's first author, in a later note: 40.5 to 70.0 AP for his detector). Among
    equal IoUs the higher original score stays ahead, then the earlier detection.
    """
    order = np.lexsort((np.arange(len(ious)), -detections.scores, -ious))
    scores = np.empty(len(detections), np.float64)
    scores[order] = np.sort(detections.scores)[::-1]
    return dataclasses.replace(detections, scores=scores)


def oracles(examined: Examined) -> dict[str, dict[str, float]]:
    """AP, AP50 and AP75 of both oracles, by name."""
    better = {"transported": with_transported_scores, "iou": with_iou_scores}
    return {
        name: coco_ap(
            examined.ground_truth, rescore(examined.detections, examined.ious), examined.pairs
        )
        for name, rescore in better.items()
    }


def score(truth: GroundTruth, results: Results) -> dict[str, Any]:
    """COCO's numbers, score-IoU correlations, the ranking oracle's AP, best thresholds; counts."""
    ious = best_iou(truth, results)
    oracle = evaluate_coco(truth, with_transported_scores(results, ious), areas=False)
    return {
        **evaluate_coco(truth, results),
        **correlations(results.scores, ious),
        "oracle_AP": oracle["AP"],
        "thresholds": best_thresholds(truth, results),
        "images": len(truth.image_ids),
        "objects": int((~truth.crowd).sum()),
        "crowds": int(truth.crowd.sum()),
        "detections": len(results),
    }
