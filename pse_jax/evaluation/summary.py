"""The content of analysis.json: every measure in one dictionary."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pse_jax.errors import ResultsError
from pse_jax.evaluation import calibration, measure, tide
from pse_jax.evaluation.arrays import xywh_to_xyxy
from pse_jax.evaluation.coco import METRICS, evaluate_coco
from pse_jax.evaluation.measure import Matched, nan_mean, ratio
from pse_jax.evaluation.oracles import oracles
from pse_jax.evaluation.ranking import worst_pairs


def summarise(matched: Matched, examples: int) -> dict[str, Any]:
    """All numbers, with so many examples of worst-ranked pairs; NaN where undefined.

    `calibration` is None where scores are not probabilities.
    """
    plain = evaluate_coco(matched.ground_truth, matched.detections)
    classes = measure.class_table(matched, plain["per_class"])
    found = matched.detections
    pairs = worst_pairs(matched.best, found.image, found.scores, matched.ious, examples)
    try:
        calibrated, note = measure.calibrate(matched), None
    except ResultsError as error:
        calibrated, note = None, f"left out: {error}"
    return {
        "files": {
            "annotations": Path(matched.ground_truth.source).name,
            "detections": Path(matched.detections.source).name,
        },
        "counts": _counts(matched),
        "coco": {name: plain[name] for name in METRICS},
        "oracles": {"plain": {name: plain[name] for name in ("AP", "AP50", "AP75")}}
        | oracles(matched),
        "correlation": measure.correlation_table(matched),
        "ranking": _ranking(matched, classes),
        "calibration": calibrated,
        "calibration_note": note,
        "errors": _errors(matched, classes),
        "threshold": _threshold(matched, classes),
        "classes": classes,
        "examples": [_example(matched, *pair) for pair in pairs],
    }


def _counts(matched: Matched) -> dict[str, int]:
    truth, found = matched.ground_truth, matched.detections
    return {
        "images": len(truth.image_ids),
        "images_without_detections": len(truth.image_ids) - len(np.unique(found.image)),
        "classes": len(truth.categories.ids),
        "objects": int((~truth.crowd).sum()),
        "crowds": int(truth.crowd.sum()),
        "detections": len(found),
        "ignored": int(matched.matches.ignored.sum()),
    }


def _ranking(matched: Matched, classes: list[dict[str, Any]]) -> dict[str, Any]:
    rho = measure.image_ranks(matched)
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
            str(matched.ground_truth.image_ids[index]): float(rho[index])
            for index in np.flatnonzero(defined)
        },
    }


def _errors(matched: Matched, classes: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts at every score and above each class's best threshold, and the AP50 of each fix."""
    limits = np.array([row["threshold"] for row in classes])
    above = (
        matched.detections.scores
        >= np.where(np.isnan(limits), np.inf, limits)[matched.detections.category]
    )
    missed = int(matched.breakdown.missed.sum())
    hit = np.zeros(len(matched.breakdown.missed), bool)
    target = matched.breakdown.target[above]
    hit[target[target >= 0]] = True
    missed_above = int((~hit & ~matched.ground_truth.crowd).sum())
    return {
        "counts": matched.breakdown.counts() | {"missed": missed},
        "counts_at_best_threshold": matched.breakdown.counts(above) | {"missed": missed_above},
        "delta_ap50": tide.delta_ap50(matched.ground_truth, matched.detections, matched.breakdown),
    }


def _threshold(matched: Matched, classes: list[dict[str, Any]]) -> dict[str, Any]:
    keep = matched.counted
    best = calibration.best_threshold(
        matched.detections.scores[keep], matched.matches.correct[keep], int(matched.objects.sum())
    )
    mean = nan_mean(np.array([row["f1"] for row in classes]))
    return {"overall": dataclasses.asdict(best), "class_mean_f1": mean}


def _example(matched: Matched, better: int, worse: int) -> dict[str, Any]:
    truth, found = matched.ground_truth, matched.detections
    image = int(found.image[better])
    sides = {
        name: {
            "index": index,
            "score": float(found.scores[index]),
            "iou": float(matched.ious[index]),
            "box_xyxy": _corners(found.boxes_xywh[index]),
        }
        for name, index in (("better_box", better), ("better_score", worse))
    }
    return {
        "image_id": int(truth.image_ids[image]),
        "file_name": truth.image_names[image],
        "class": truth.categories.names[int(found.category[better])],
        "object_xyxy": _corners(truth.boxes_xywh[int(matched.best[better])]),
        **sides,
    }


def _corners(box_xywh: Float[np.ndarray, "4"]) -> list[float]:
    return xywh_to_xyxy(box_xywh[None])[0].tolist()
