"""The content of analysis.json: every measure in one dictionary."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from pse_jax.errors import ResultsError
from pse_jax.evaluation import calibration, measure, tide, worst
from pse_jax.evaluation.arrays import Bools
from pse_jax.evaluation.coco import METRICS, evaluate_coco
from pse_jax.evaluation.confusion import Confusion, confusion_matrix
from pse_jax.evaluation.measure import Examined, nan_mean, ratio
from pse_jax.evaluation.oracles import oracles
from pse_jax.evaluation.ranking import worst_pairs

OF_EACH_KIND = 4  # examples of a kind of error, at most


def summarise(examined: Examined, examples: int) -> dict[str, Any]:
    """All numbers, with so many worst images and worst-ranked pairs; NaN where undefined.

    `calibration` is None where scores are not probabilities.
    """
    plain = evaluate_coco(examined.ground_truth, examined.detections)
    classes = measure.class_table(examined, plain["per_class"])
    found = examined.detections
    pairs = worst_pairs(examined.best, found.image, found.scores, examined.ious, examples)
    limits = np.array([row["threshold"] for row in classes])
    above = found.scores >= limits[found.category]  # False where no threshold helps
    confused = confusion_matrix(
        examined.ground_truth, found, threshold=limits, pairs=examined.pairs
    )
    try:
        calibrated, note = measure.calibrate(examined), None
    except ResultsError as error:
        calibrated, note = None, f"left out: {error}"
    return {
        "files": {
            "annotations": Path(examined.ground_truth.source).name,
            "detections": Path(examined.detections.source).name,
        },
        "counts": examined.counts,
        "coco": {name: plain[name] for name in METRICS},
        "oracles": {"plain": {name: plain[name] for name in ("AP", "AP50", "AP75")}}
        | oracles(examined),
        "correlation": measure.correlation_table(examined),
        "ranking": _ranking(examined, classes),
        "calibration": calibrated,
        "calibration_note": note,
        "errors": _errors(examined, above),
        "confusion": _confusion(confused),
        "threshold": _threshold(examined, classes),
        "classes": classes,
        "worst_images": worst.worst_images(examined, above, examples),
        "worst_errors": worst.worst_errors(examined, above, min(examples, OF_EACH_KIND)),
        "examples": [_example(examined, *pair) for pair in pairs],
    }


def _ranking(examined: Examined, classes: list[dict[str, Any]]) -> dict[str, Any]:
    rho = measure.image_ranks(examined)
    defined = ~np.isnan(rho)
    pairs, inverted = (sum(row[key] for row in classes) for key in ("pairs", "inverted"))
    per_class = np.array([row["rho_cls"] for row in classes])
    return {
        "rho_img": nan_mean(rho),
        "rho_img_images": int(defined.sum()),
        "rho_cls": nan_mean(per_class),
        "rho_cls_classes": int((~np.isnan(per_class)).sum()),
        "pairs": pairs,
        "inverted": inverted,
        "inversion_rate": ratio(inverted, pairs),
        "inversion_rate_class_mean": nan_mean(np.array([row["inversion_rate"] for row in classes])),
        "per_image": {
            str(examined.ground_truth.image_ids[index]): float(rho[index])
            for index in np.flatnonzero(defined)
        },
    }


def _errors(examined: Examined, above: Bools) -> dict[str, Any]:
    """Counts at every score and above each class's best threshold, and the AP50 of each fix."""
    breakdown = examined.breakdown
    missed = {"missed": int(breakdown.missed.sum())}
    missed_above = {"missed": int(worst.missed_above(examined, above).sum())}
    return {
        "counts": breakdown.counts() | missed,
        "counts_at_best_threshold": breakdown.counts(above) | missed_above,
        "delta_ap50": tide.delta_ap50(examined.ground_truth, examined.detections, breakdown),
    }


def _confusion(matrix: Confusion) -> dict[str, Any]:
    """The matrix at each class's best threshold; rows are objects, columns detections."""
    return {
        "labels": matrix.labels,
        "counts": matrix.counts,
        "below_threshold": matrix.below,
        "ignored": matrix.ignored,
    }


def _threshold(examined: Examined, classes: list[dict[str, Any]]) -> dict[str, Any]:
    keep, objects = examined.counted, int(examined.objects.sum())
    scores, correct = examined.detections.scores[keep], examined.matches.correct[keep]
    best = calibration.best_threshold(scores, correct, objects)
    mean = nan_mean(np.array([row["f1"] for row in classes]))
    return {"overall": dataclasses.asdict(best), "class_mean_f1": mean}


def _example(examined: Examined, better: int, worse: int) -> dict[str, Any]:
    truth, found = examined.ground_truth, examined.detections
    image = int(found.image[better])
    sides = {
        name: {
            "index": index,
            "score": float(found.scores[index]),
            "iou": float(examined.ious[index]),
            "box_xyxy": worst.corners(found.boxes_xywh[index]),
        }
        for name, index in (("better_box", better), ("better_score", worse))
    }
    return {
        "image_id": int(truth.image_ids[image]),
        "file_name": truth.image_names[image],
        "class": truth.categories.names[int(found.category[better])],
        "object_xyxy": worst.corners(truth.boxes_xywh[int(examined.best[better])]),
        **sides,
    }
