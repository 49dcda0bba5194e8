"""Geometry of boxes. Exclusive xyxy in pixels: a box from 2 to 5 is 3 wide.

Dimensions: n, m boxes; `*n` any leading axes.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

Quads = Float[Array, "*n 4"]  # boxes xyxy, or distances (left, top, right, bottom), px
Points = Float[Array, "*n 2"]  # xy, px
PerBox = Float[Array, "*n"]

SMALLEST = 1e-9  # px²: keeps a quotient of areas defined where both are nothing


def box_area(boxes_xyxy: Quads) -> PerBox:
    """Areas in px²; an inverted box has none."""
    size = jnp.maximum(boxes_xyxy[..., 2:] - boxes_xyxy[..., :2], 0.0)
    return size[..., 0] * size[..., 1]


def pairwise_iou(a: Float[Array, "n 4"], b: Float[Array, "m 4"]) -> Float[Array, "n m"]:
    """Intersection over union of every pair of xyxy boxes; 0 where both areas are 0."""
    top_left = jnp.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = jnp.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = box_area(jnp.concatenate([top_left, bottom_right], axis=-1))
    union = box_area(a)[:, None] + box_area(b)[None, :] - intersection
    return intersection / jnp.maximum(union, SMALLEST)


def distances_to_boxes(points_xy: Points, distances_ltrb: Quads) -> Quads:
    """Boxes xyxy whose edges lie (left, top, right, bottom) px from the points (FCOS, Eq. 1)."""
    return jnp.concatenate(
        [points_xy - distances_ltrb[..., :2], points_xy + distances_ltrb[..., 2:]], axis=-1
    )


def boxes_to_distances(
    points_xy: Float[Array, "*#n 2"], boxes_xyxy: Float[Array, "*#n 4"]
) -> Quads:
    """Distances (left, top, right, bottom) in px from points to box edges; negative outside."""
    return jnp.concatenate([points_xy - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - points_xy], -1)


def _distance_area(ltrb: Quads) -> PerBox:
    return (ltrb[..., 0] + ltrb[..., 2]) * (ltrb[..., 1] + ltrb[..., 3])


def distance_iou(predicted_ltrb: Quads, target_ltrb: Quads, *, smooth: float = 0.0) -> PerBox:
    """IoU of two boxes around one point, from their non-negative distances (paper, Eq. 7).

    Args:
        predicted_ltrb: predicted distances, px.
        target_ltrb: the assigned box's distances, px.
        smooth: px² added to intersection and union. 0 is Eq. (7); FCOS and the authors add 1.
    """
    intersection = _distance_area(jnp.minimum(predicted_ltrb, target_ltrb))
    union = _distance_area(predicted_ltrb) + _distance_area(target_ltrb) - intersection
    return (intersection + smooth) / jnp.maximum(union + smooth, SMALLEST)


def distance_giou(predicted_ltrb: Quads, target_ltrb: Quads, *, smooth: float = 0.0) -> PerBox:
    """Generalised IoU (Rezatofighi et al.) of two boxes around one point; arguments as above.

    The IoU, less the share of the smallest enclosing box that neither covers; `smooth` goes to the
    IoU alone, as in FCOS's iou_loss.py.
    """
    intersection = _distance_area(jnp.minimum(predicted_ltrb, target_ltrb))
    union = _distance_area(predicted_ltrb) + _distance_area(target_ltrb) - intersection
    hull = _distance_area(jnp.maximum(predicted_ltrb, target_ltrb))
    outside = (hull - union) / jnp.maximum(hull, 1e-7)
    return distance_iou(predicted_ltrb, target_ltrb, smooth=smooth) - outside


def clip_boxes(boxes_xyxy: Quads, hw: Float[Array, " 2"]) -> Quads:
    """Boxes cut to an image of (height, width) px."""
    limits = jnp.stack([hw[1], hw[0], hw[1], hw[0]])
    return jnp.clip(boxes_xyxy, 0.0, limits)
