"""The numbers of an evaluation."""

from typing import Any

from pse_jax.evaluation.arrays import GroundTruth, Results
from pse_jax.evaluation.coco import evaluate_coco
from pse_jax.evaluation.correlation import correlations
from pse_jax.evaluation.matching import best_iou
from pse_jax.evaluation.oracles import with_transported_scores


def score(truth: GroundTruth, results: Results) -> dict[str, Any]:
    """COCO's numbers, score-IoU correlations and the ranking oracle's AP, in [0, 1]; counts."""
    ious = best_iou(truth, results)
    oracle = evaluate_coco(truth, with_transported_scores(results, ious), areas=False)
    return {
        **evaluate_coco(truth, results),
        **correlations(results.scores, ious),
        "oracle_AP": oracle["AP"],
        "images": len(truth.image_ids),
        "objects": int((~truth.crowd).sum()),
        "crowds": int(truth.crowd.sum()),
        "detections": len(results),
    }
