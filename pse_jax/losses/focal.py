"""The focal loss: Eq. (4); from Lin et al., "Focal Loss for Dense Object Detection"."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Values = Float[Array, "*n"]  # elementwise, of any shape


def sigmoid_focal_loss(
    logits: Values, targets: Values, *, alpha: float = 0.25, gamma: float = 2.0
) -> Values:
    """Eq. (4), elementwise: -α (1-p̂)^γ log p̂ where the target is 1, -(1-α) p̂^γ log(1-p̂) where 0.

    Args:
        logits: o, with p̂ = sigmoid(o).
        targets: 0 or 1, same shape.
        alpha: weight of the positives; the negatives weigh 1 - alpha.
        gamma: how fast well-classified examples lose weight; 0 is the weighted cross-entropy.
    """
    # Both cases are the same function of the margin, the logit counted towards the target.
    sign = 2.0 * targets - 1.0
    margin = sign * logits
    weight = alpha * targets + (1.0 - alpha) * (1.0 - targets)
    log_p = jax.nn.log_sigmoid(margin)
    # (1-p̂)^γ through its logarithm: finite, with finite gradients, however large the logit.
    modulation = jnp.exp(gamma * jax.nn.log_sigmoid(-margin))
    return -weight * modulation * log_p
