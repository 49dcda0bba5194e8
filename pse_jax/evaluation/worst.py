"""Where a detector fails worst: images with most errors, and the clearest cases of each kind."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pse_jax.evaluation import tide
from pse_jax.evaluation.arrays import Bools, xywh_to_xyxy
from pse_jax.evaluation.matching import best_of, select
from pse_jax.evaluation.measure import Examined


def missed_above(examined: Examined, above: Bools) -> Bool[np.ndarray, "g"]:
    """The objects that no correct, localisation or class detection points at, of those kept."""
    missed = ~examined.ground_truth.crowd
    target = examined.breakdown.target[above]
    missed[target[target >= 0]] = False
    return missed


def worst_images(examined: Examined, above: Bools, count: int) -> list[dict[str, Any]]:
    """The images with most wrong detections and missed objects, of the detections to keep.

    Each with its numbers of objects and of detections of each kind (`tide.KINDS`).
    """
    truth, found = examined.ground_truth, examined.detections
    images = len(truth.image_ids)
    kinds = {
        kind: np.bincount(found.image[above & examined.breakdown.of(kind)], minlength=images)
        for kind in tide.KINDS
    }
    kinds["missed"] = np.bincount(truth.image[missed_above(examined, above)], minlength=images)
    errors = np.sum([kinds[kind] for kind in tide.ERRORS], axis=0)
    objects = np.bincount(truth.image[~truth.crowd], minlength=images)
    order = np.argsort(-errors, kind="stable")[: min(count, np.count_nonzero(errors))]
    return [
        {
            "image_id": int(truth.image_ids[i]),
            "file_name": truth.image_names[i],
            "objects": int(objects[i]),
            "errors": int(errors[i]),
            **{kind: int(numbers[i]) for kind, numbers in kinds.items()},
        }
        for i in order.tolist()
    ]


def worst_errors(examined: Examined, above: Bools, count: int) -> dict[str, list[dict[str, Any]]]:
    """Examples of each kind of error, one per image.

    Of wrong detections those of the highest scores, each with the object that it overlaps most: of
    its own class where the kind says so, of another or of any class otherwise. Of the objects that
    are missed by the detections to keep, the largest.
    """
    truth, found = examined.ground_truth, examined.detections
    regular = select(examined.pairs, ~truth.crowd[examined.pairs.object])
    nearest, nearest_iou = best_of(regular, len(found))
    by_score = np.lexsort((found.image, -found.scores))
    worst: dict[str, list[dict[str, Any]]] = {}
    for kind in tide.WRONG:
        rows = by_score[examined.breakdown.of(kind)[by_score]]
        objects, ious = nearest, nearest_iou
        if kind in ("localisation", "duplicate"):
            objects, ious = examined.best, examined.ious
        worst[kind] = [
            _entry(examined, int(found.image[d]), d, int(objects[d]), float(ious[d]))
            for d in _one_per_image(rows, found.image, count)
        ]
    missed = np.flatnonzero(missed_above(examined, above))
    missed = missed[np.argsort(-truth.area[missed], kind="stable")]
    worst["missed"] = [
        _entry(examined, int(truth.image[g]), None, g, 0.0)
        for g in _one_per_image(missed, truth.image, count)
    ]
    return worst


def _one_per_image(
    rows: Int[np.ndarray, "n"], image: Int[np.ndarray, "m"], count: int
) -> Iterable[int]:
    _, first = np.unique(image[rows], return_index=True)
    return rows[np.sort(first)[:count]].tolist()


def _entry(
    examined: Examined, image: int, detection: int | None, target: int, iou: float
) -> dict[str, Any]:
    """One error for analysis.json; a missed object has no detection, a stray box no object."""
    truth, found = examined.ground_truth, examined.detections
    names = truth.categories.names
    entry: dict[str, Any] = {
        "image_id": int(truth.image_ids[image]),
        "file_name": truth.image_names[image],
        "detection": None,
        "object": None,
    }
    if detection is not None:
        entry["detection"] = {
            "index": detection,
            "class": names[int(found.category[detection])],
            "score": float(found.scores[detection]),
            "box_xyxy": corners(found.boxes_xywh[detection]),
        }
    if target >= 0:
        entry["object"] = {
            "class": names[int(truth.category[target])],
            "iou": iou,
            "box_xyxy": corners(truth.boxes_xywh[target]),
        }
    return entry


def corners(box_xywh: Float[np.ndarray, "4"]) -> list[float]:
    """One box as xyxy for JSON."""
    return xywh_to_xyxy(box_xywh[None])[0].tolist()
