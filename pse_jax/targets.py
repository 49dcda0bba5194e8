"""Which location answers for which object (FCOS, sec. 3.1 and 3.2).

Dimensions: p locations, n box slots (padded; `valid` says which are real). Written for one image;
`jax.vmap` does the batch.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pse_jax import boxes
from pse_jax.config import TargetConfig
from pse_jax.points import STRIDES


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Targets:
    """What each location should predict; labels and distances count only where `positive`."""

    positive: Bool[Array, "*b p"]
    label: Int[Array, "*b p"]  # 0..classes-1
    distances: Float[Array, "*b p 4"]  # px, left top right bottom
    stride: Float[Array, "*b p"]  # px, of the location's level
    matched: Int[Array, "*b p"] | None = None  # index of the object among the box slots
    slots: int = dataclasses.field(default=0, metadata={"static": True})  # how many those are


def assign(
    points_xy: Float[Array, "p 2"],
    levels: Int[Array, " p"],
    boxes_xyxy: Float[Array, "n 4"],
    labels: Int[Array, " n"],
    valid: Bool[Array, " n"],
    config: TargetConfig,
) -> Targets:
    """Gives every location at most one object: the smallest of those that it may answer for.

    A location may answer for a box that it lies strictly inside of (with centre sampling: inside
    the box cut to `center_radius` strides around its centre) and whose largest distance to an edge
    falls in the level's size range, both ends included. Equal areas: the first box.
    """
    # Every side is a [p, n] array of its own: XLA then makes one loop of all of this, where arrays
    # [p, n, 4] would be written out and read again, several times.
    x, y = points_xy[:, :1], points_xy[:, 1:]
    x1, y1, x2, y2 = boxes_xyxy.T
    sides = x - x1, y - y1, x2 - x, y2 - y  # of the whole box: left, top, right, bottom

    strides = jnp.asarray(STRIDES, jnp.float32)[levels]
    inner = sides
    if config.center_radius > 0:  # FCOS journal version: the box's centre region
        reach = config.center_radius * strides[:, None]
        centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
        inner = (
            x - jnp.maximum(centre_x - reach, x1),
            y - jnp.maximum(centre_y - reach, y1),
            jnp.minimum(centre_x + reach, x2) - x,
            jnp.minimum(centre_y + reach, y2) - y,
        )
    inside = functools.reduce(jnp.minimum, inner) > 0

    lower = jnp.asarray((-1.0, *config.size_bounds), jnp.float32)[levels][:, None]
    upper = jnp.asarray((*config.size_bounds, 1e8), jnp.float32)[levels][:, None]
    largest = functools.reduce(jnp.maximum, sides)
    in_range = (largest >= lower) & (largest <= upper)

    candidate = inside & in_range & valid[None, :]
    area = jnp.where(candidate, boxes.box_area(boxes_xyxy)[None, :], jnp.inf)
    match = jnp.argmin(area, axis=1)  # the first of equals
    positive = candidate.any(axis=1)
    return Targets(
        positive=positive,
        label=jnp.where(positive, labels[match], 0),
        distances=jnp.where(
            positive[:, None], boxes.boxes_to_distances(points_xy, boxes_xyxy[match]), 1.0
        ),
        stride=strides,
        matched=jnp.where(positive, match, 0),
        slots=boxes_xyxy.shape[0],
    )


def centerness(distances_ltrb: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """How central a location lies in its box, 0 at an edge and 1 at the centre (FCOS, Eq. 3).

    sqrt(min(l, r) / max(l, r) · min(t, b) / max(t, b)), of positive distances.
    """
    before, after = distances_ltrb[..., :2], distances_ltrb[..., 2:]  # (l, t) and (r, b)
    ratio = jnp.minimum(before, after) / jnp.maximum(before, after)
    return jnp.sqrt(ratio[..., 0] * ratio[..., 1])
