"""Fig. 2(b): boxes that were better placed and lost to one that was better scored.

An object's reported box is the best-scored detection that lies on it. NMS removed others in its
favour; if one of them lay better on the object, the detector chose the wrong one.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from pycocotools import mask

from pse_jax.evaluation.measure import nan_mean
from pse_jax.evaluation.tide import BACKGROUND, FOREGROUND
from pse_jax.experiments.figures.inspect import InspectedImage
from pse_jax.postprocess import AnyArray, PaddedDetections


@dataclasses.dataclass(frozen=True)
class Lost:
    """An object, the box that was kept for it and the best of those removed in its favour.

    Boxes are xyxy in px of the original image. Where none of those removed lay better, `iou_lost`
    is `iou_kept` and `box_lost` is `box_kept`.
    """

    index: int  # of the image in the data set
    label: int
    object_xyxy: Float[np.ndarray, " 4"]
    box_kept: Float[np.ndarray, " 4"]
    score_kept: float
    iou_kept: float
    box_lost: Float[np.ndarray, " 4"]
    score_lost: float
    iou_lost: float
    removed: int = 0  # boxes on the object that NMS removed in favour of the one that was kept

    @property
    def gap(self) -> float:
        """The IoU that the choice cost."""
        return self.iou_lost - self.iou_kept


def iou_matrix(a: Float[AnyArray, "n 4"], b: Float[AnyArray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """IoU of every pair of xyxy boxes, by pycocotools."""
    a_xywh, b_xywh = (np.hstack([x[:, :2], x[:, 2:] - x[:, :2]]).astype(np.float64) for x in (a, b))
    none = np.zeros(len(b), np.uint8)  # is a crowd
    found = mask.iou(a_xywh, b_xywh, none)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return np.asarray(found, np.float64).reshape(len(a), len(b))  # [] where there are no boxes


def lost_boxes(image: InspectedImage, nms_threshold: float, extent: float = 0.0) -> list[Lost]:
    """For every object on which a detection lies, what was kept and what was lost.

    Args:
        image: candidates, detections and ground truth of one image.
        nms_threshold: over which a candidate was removed.
        extent: px that a width counts more than x2 - x1 in NMS: 1 for inclusive boxes.
    """
    kept, tried = image.found, image.candidates
    if not len(kept.scores) or not len(image.object_labels):
        return []
    more = np.array([0.0, 0.0, extent, extent])
    close = iou_matrix(kept.boxes_xyxy + more, tried.boxes_xyxy + more) > nms_threshold
    close &= kept.labels[:, None] == tried.labels[None, :]
    remover = np.where(close.any(axis=0), close.argmax(axis=0), -1)  # the first is the best-scored
    kept_object, kept_iou = nearest_objects(kept, image)
    own_object, own_iou = nearest_objects(tried, image)

    results = []
    scale = np.tile(image.scale_xy, 2)
    hits = np.flatnonzero(kept_iou >= BACKGROUND)
    objects, first = np.unique(kept_object[hits], return_index=True)
    for item, winner in zip(objects.tolist(), hits[first].tolist(), strict=True):
        removed = np.flatnonzero((remover == winner) & (own_object == item))
        sides = [(kept, winner, kept_iou[winner]), *((tried, i, own_iou[i]) for i in removed)]
        pair = sides[0], max(sides, key=lambda side: side[2])  # the first of equals
        columns = [(b.boxes_xyxy[i] * scale, float(b.scores[i]), float(iou)) for b, i, iou in pair]
        label, box = int(image.object_labels[item]), image.object_boxes[item] * scale
        others = len(removed) - 1  # without the winner, which lies over itself
        results.append(Lost(image.index, label, box, *columns[0], *columns[1], others))
    return results


def nearest_objects(
    boxes: PaddedDetections, image: InspectedImage
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The object of the same class with the highest IoU (0 if there is none), and that IoU."""
    if not len(image.object_labels):
        return np.zeros(len(boxes.scores), np.int64), np.zeros(len(boxes.scores))
    same = boxes.labels[:, None] == image.object_labels[None, :]
    iou = np.where(same, iou_matrix(boxes.boxes_xyxy, image.object_boxes), 0.0)
    return iou.argmax(axis=1), iou.max(axis=1)


def worst(lost: list[Lost], count: int, min_score: float) -> list[Lost]:
    """The examples with the widest gaps, at most `count` and one per image.

    The kept box has at least `min_score`, or nobody would have been shown it, and the lost one lies
    well on the object.
    """
    good = [x for x in lost if x.gap > 0 and x.score_kept >= min_score and x.iou_lost >= FOREGROUND]
    chosen: dict[int, Lost] = {}
    for example in sorted(good, key=lambda x: (-x.gap, x.index)):
        chosen.setdefault(example.index, example)
    return list(chosen.values())[:count]


def summary(lost: list[Lost], min_score: float) -> dict[str, Any]:
    """How often and how much, over the objects whose kept box has at least this score."""
    shown = [x for x in lost if x.score_kept >= min_score]
    gaps = np.array([x.gap for x in shown])
    return {
        "objects": len(shown),
        "better_box_lost": nan_mean(1.0 * (gaps > 0)),
        "mean_removed": nan_mean(np.array([x.removed for x in shown], np.float64)),
        "better_by_0.1": nan_mean(1.0 * (gaps > 0.1)),
        "mean_iou_kept": nan_mean(np.array([x.iou_kept for x in shown])),
        "mean_iou_best": nan_mean(np.array([x.iou_lost for x in shown])),
    }
