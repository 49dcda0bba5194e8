"""From predictions to detections: threshold, top-k per level, boxes, class-wise NMS (FCOS, sec. 3).

Dimensions: b images, p locations, c classes, n candidates, d detections. Written for one image.
"""

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pse_jax import boxes
from pse_jax.config import InferenceConfig
from pse_jax.models.head import Predictions
from pse_jax.points import level_shapes, locations

AnyArray = Array | np.ndarray  # the latter once it was fetched from the device


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PaddedDetections:
    """Detections of an image, best first; slots that are not `valid` hold zeros.

    Boxes are in px of the resized image, after `rescale` of the original one.
    """

    boxes_xyxy: Float[AnyArray, "*b d 4"]
    scores: Float[AnyArray, "*b d"]
    labels: Int[AnyArray, "*b d"]  # 0..classes-1
    valid: Bool[AnyArray, "*b d"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
    """Boxes before NMS; those that are not `valid` are to be ignored."""

    boxes_xyxy: Float[Array, "n 4"]
    scores: Float[Array, " n"]
    labels: Int[Array, " n"]
    valid: Bool[Array, " n"]


Chosen = TypeVar("Chosen", Candidates, PaddedDetections)


def final_scores(
    scores: Float[Array, "*#n"], quality: Float[Array, "*#n"] | None, config: InferenceConfig
) -> Float[Array, "*n"]:
    """What boxes are ranked by: the class score, times the quality if there is one, or its root."""
    if quality is None:
        return scores
    final = scores * quality
    return jnp.sqrt(jnp.maximum(final, 0.0)) if config.sqrt_score else final


def extent_of(config: InferenceConfig) -> float:
    """Px that a width and a height count more than x2 - x1: 1 for inclusive boxes, else 0."""
    return 1.0 if config.inclusive_boxes else 0.0


def top_candidates(
    scores: Float[Array, "p c"],
    quality: Float[Array, " p"] | None,
    boxes_xyxy: Float[Array, "p 4"],
    config: InferenceConfig,
) -> Candidates:
    """The `top_k` best (location, class) pairs of one level with a score over the threshold.

    Exact in two small steps instead of one over p·c pairs: the k best pairs lie within the k
    locations with the highest class score.

    Args:
        scores: class probabilities; negative where there must be no detection.
        quality: of a centre-ness or IoU branch, in [0, 1].
        boxes_xyxy: the boxes of the locations.
        config: thresholds, and by which of the two scores they go.
    """
    final = final_scores(scores, None if quality is None else quality[:, None], config)
    by = {"class": scores, "final": final}
    possible = (by[config.threshold_by] > config.score_threshold) & (scores >= 0)
    ranks = jnp.where(possible, by[config.top_k_by], -1.0)

    count, classes = scores.shape
    _, best = jax.lax.top_k(ranks.max(axis=1), min(config.top_k, count))
    pairs = ranks[best].reshape(-1)
    values, index = jax.lax.top_k(pairs, min(config.top_k, pairs.size))
    location, label = best[index // classes], index % classes
    return Candidates(
        boxes_xyxy=boxes_xyxy[location],
        scores=final[location, label],
        labels=label,
        valid=values >= 0,
    )


def non_maximum_suppression(
    candidates: Candidates, iou_threshold: float, max_detections: int, extent: float = 0.0
) -> PaddedDetections:
    """Greedy, class by class: keeps the best box, drops those that overlap it, and so on.

    Runs `max_detections` rounds, whatever the data, so that it has one shape and no data-dependent
    loop. Equal scores: the lower index first. Exactly `iou_threshold` stays.

    Args:
        candidates: what to choose from.
        iou_threshold: overlap over which the lower-scored of two boxes of a class goes.
        max_detections: how many are kept.
        extent: px that a width and a height count more than x2 - x1: 1 for inclusive boxes.
    """
    boxes_xyxy = candidates.boxes_xyxy + jnp.array([0.0, 0.0, extent, extent])

    def take_best(
        scores: Float[Array, " n"], _: None
    ) -> tuple[Float[Array, " n"], tuple[Array, Array]]:
        best = jnp.argmax(scores)
        score = scores[best]
        overlap = boxes.pairwise_iou(boxes_xyxy[best][None], boxes_xyxy)[0]
        same = candidates.labels == candidates.labels[best]
        gone = (overlap > iou_threshold) & same
        scores = jnp.where(gone, -1.0, scores).at[best].set(-1.0)
        return scores, (best, score)

    alive = jnp.where(candidates.valid, candidates.scores, -1.0)
    _, (index, scores) = jax.lax.scan(take_best, alive, length=max_detections)
    valid = scores >= 0.0
    return PaddedDetections(
        boxes_xyxy=jnp.where(valid[:, None], candidates.boxes_xyxy[index], 0.0),
        scores=jnp.where(valid, scores, 0.0),
        labels=jnp.where(valid, candidates.labels[index], 0),
        valid=valid,
    )


def detections(
    predictions: Predictions,
    size_hw: Int[Array, " 2"],
    image_valid: Bool[Array, ""],
    shape: tuple[int, int],
    config: InferenceConfig,
    grid: str = "center",
) -> PaddedDetections:
    """Detections of one image, in pixels of the resized image.

    Args:
        predictions: without a batch axis: [p, c], [p, 4] and, with a quality branch, [p].
        size_hw: height and width of the image within its padded canvas; boxes are clipped to it and
            those with nothing left are dropped, either before NMS (`clip_first`) or after it.
        image_valid: False for a slot that pads the batch: it gets no detections.
        shape: height and width of the canvas.
        config: thresholds and counts.
        grid: where the locations lie (points.py).
    """
    points_xy, _ = locations(*shape, grid)
    extent = extent_of(config)
    limits_hw = size_hw.astype(jnp.float32) - extent
    found = boxes.distances_to_boxes(jnp.asarray(points_xy), predictions.distances)
    scores = jnp.where(image_valid, jax.nn.sigmoid(predictions.class_logits), -1.0)
    quality = predictions.quality_logits
    quality = None if quality is None else jax.nn.sigmoid(quality)

    def clip(chosen: Chosen) -> Chosen:
        inside = boxes.clip_boxes(jnp.asarray(chosen.boxes_xyxy), limits_hw)
        left = boxes.box_area(inside + jnp.array([0.0, 0.0, extent, extent])) > 0
        return dataclasses.replace(chosen, boxes_xyxy=inside, valid=chosen.valid & left)

    levels, start = [], 0
    for rows, columns in level_shapes(*shape):
        stop = start + rows * columns
        level = slice(start, stop)
        level_quality = None if quality is None else quality[level]
        levels.append(top_candidates(scores[level], level_quality, found[level], config))
        start = stop
    candidates = jax.tree.map(lambda *parts: jnp.concatenate(parts), *levels)
    candidates = clip(candidates) if config.clip_first else candidates
    kept = non_maximum_suppression(candidates, config.nms_threshold, config.max_detections, extent)
    return kept if config.clip_first else clip(kept)


def rescale(
    detections: PaddedDetections,
    scale_xy: Float[Array, "b 2"],
    original_hw: Float[Array, "b 2"],
    *,
    inclusive: bool = False,
) -> PaddedDetections:
    """Detections in pixels of the original images; `scale_xy` is original over resized size.

    Boxes come out exclusive and clipped. `inclusive` says that they go in as maskrcnn-benchmark's,
    whose last pixel still belongs to the box: that pixel is added after the scaling and nothing is
    clipped, as there, so that in an image that was enlarged an edge may end under 1 px outside.
    """
    scale = jnp.tile(scale_xy, (1, 2))[:, None, :]
    moved = jnp.asarray(detections.boxes_xyxy) * scale
    if inclusive:
        moved = moved + jnp.array([0.0, 0.0, 1.0, 1.0])
    else:
        moved = jax.vmap(boxes.clip_boxes)(moved, original_hw)
    return dataclasses.replace(detections, boxes_xyxy=moved)
