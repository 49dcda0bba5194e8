"""Fig. 2(b): boxes that were better placed and lost to one that was better scored.

An object's reported box is the best-scored detection that lies on it. NMS removed others in its
favour; if one of them lay better on the object, the detector chose the wrong one.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from pycocotools import mask

from pse_jax.experiments.figures.inspect import Boxes, InspectedImage

TOUCHING = 0.1  # TIDE's t_b: below it a box lies on the background


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

    @property
    def gap(self) -> float:
        """The IoU that the choice cost."""
        return self.iou_lost - self.iou_kept


def iou_matrix(
    a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]
) -> Float[np.ndarray, "n m"]:
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
    for item in np.unique(kept_object[kept_iou >= TOUCHING]).tolist():
        winner = int(np.flatnonzero((kept_object == item) & (kept_iou >= TOUCHING))[0])
        removed = np.flatnonzero((remover == winner) & (own_object == item))
        best = removed[own_iou[removed].argmax()] if removed.size else -1
        sides = [(kept, winner, float(kept_iou[winner]))] * 2
        if best >= 0 and own_iou[best] > kept_iou[winner]:
            sides[1] = (tried, best, float(own_iou[best]))
        columns = [(b.boxes_xyxy[i] * scale, float(b.scores[i]), iou) for b, i, iou in sides]
        label, box = int(image.object_labels[item]), image.object_boxes[item] * scale
        results.append(Lost(image.index, label, box, *columns[0], *columns[1]))
    return results


def nearest_objects(
    boxes: Boxes, image: InspectedImage
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The object of the same class with the highest IoU (0 if there is none), and that IoU."""
    if not len(image.object_labels):
        return np.zeros(len(boxes.scores), np.int64), np.zeros(len(boxes.scores))
    same = boxes.labels[:, None] == image.object_labels[None, :]
    iou = np.where(same, iou_matrix(boxes.boxes_xyxy, image.object_boxes), 0.0)
    return iou.argmax(axis=1), iou.max(axis=1)


def worst(lost: list[Lost], count: int, min_score: float, min_iou: float) -> list[Lost]:
    """The examples with the widest gaps, one an image.

    Args:
        lost: of all images.
        count: how many at most.
        min_score: of the box that was kept: what a person would have been shown.
        min_iou: of the box that was lost: a good detection.
    """
    good = [x for x in lost if x.gap > 0 and x.score_kept >= min_score and x.iou_lost >= min_iou]
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
        "better_box_lost": float((gaps > 0).mean()) if shown else float("nan"),
        "better_by_0.1": float((gaps > 0.1).mean()) if shown else float("nan"),
        "mean_iou_kept": float(np.mean([x.iou_kept for x in shown])) if shown else float("nan"),
        "mean_iou_best": float(np.mean([x.iou_lost for x in shown])) if shown else float("nan"),
    }


def describe(numbers: dict[str, Any], min_score: float) -> str:
    """What `summary` found, in a sentence."""
    return (
        f"of {numbers['objects']} objects found with a score of {min_score:g} or more, "
        f"{numbers['better_box_lost']:.0%} had a better-placed box that NMS removed "
        f"({numbers['better_by_0.1']:.0%} by more than 0.1 of IoU); mean IoU "
        f"{numbers['mean_iou_kept']:.3f}, with the best box {numbers['mean_iou_best']:.3f}"
    )
