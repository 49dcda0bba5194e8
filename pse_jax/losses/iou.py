"""The box losses: Eq. (6) of the paper, from Yu et al., "UnitBox"; and the generalised IoU's."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Values = Float[Array, "*n"]  # elementwise, of any shape

SMALLEST_IOU = 1e-9  # where -log stops growing; float32 IoUs of boxes that overlap lie far above


def iou_loss(iou: Values) -> Values:
    """-log(IoU), elementwise (Eq. 6 without λ and the sum). IoU in [0, 1]; finite at 0."""
    return -jnp.log(jnp.maximum(iou, SMALLEST_IOU))


def giou_loss(giou: Values) -> Values:
    """1 - GIoU, elementwise (Rezatofighi et al.), for the improved FCOS. GIoU in [-1, 1]."""
    return 1.0 - giou
