"""An association within each object: its best-placed location shall be its best-scored one.

The elementwise losses draw every score to a line and so order the locations of an object only as
well as they hit it; NMS keeps the best-scored one. Here the order itself is what is learned.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pse_jax.targets import Targets


def best_first_loss(
    logit: Float[Array, "*b p"],
    iou: Float[Array, "*b p"],
    positive: Bool[Array, "*b p"],
    targets: Targets,
    *,
    beta: float = 1.0,
) -> Float[Array, "*b p"]:
    """Best first, elementwise: β (Î* - Î) log(1 + e^(o - o*)).

    The star marks the object's positive with the highest IoU (the first of equals). A pair weighs
    as much as the IoU that is lost if NMS keeps the wrong one of it; the gradient pushes o down and
    o* up. This project's; after the pairwise ranking losses (Burges et al., RankNet, 2005).

    Args:
        logit: o, of the score that detections are ranked by.
        iou: Î in [0, 1]; detached.
        positive: which locations count.
        targets: of which the object of each location is read.
        beta: weight.

    Returns:
        0 for the best-placed location of an object; undefined away from positives.

    Raises:
        ValueError: if the targets do not say which object a location answers for.
    """
    if targets.matched is None:
        raise ValueError("an order within objects needs to know the object of each location")
    iou = jax.lax.stop_gradient(iou)
    member = (targets.matched[..., None] == jnp.arange(targets.slots)) & positive[..., None]
    best = jnp.where(member, iou[..., None], -1.0).argmax(axis=-2)  # [*b, slots]
    best_here = jnp.take_along_axis(best, targets.matched, axis=-1)  # [*b, p]
    best_iou, best_logit = (jnp.take_along_axis(v, best_here, axis=-1) for v in (iou, logit))
    return beta * (best_iou - iou) * jax.nn.softplus(logit - best_logit)
