"""The task-consistency loss: Wang and Zhang, "Reconcile Prediction Consistency", ICCV 2021."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Values = Float[Array, "*n"]  # elementwise, of any shape

MARGIN = 0.2  # a smaller disagreement costs nothing (their m)


def tc_loss(score: Values, iou: Values, *, beta: float = 1.0, k: float = 1.0) -> Values:
    """Task consistency, elementwise: β max(0, |p̂ - k·Î| - 0.2) / (1 + e^H).

    H is the entropy of the prediction: an uncertain one weighs less. The source sums it over a
    softmax's classes; a sigmoid has no such distribution, so here it is the entropy of the score
    alone, -p̂ log p̂ - (1-p̂) log(1-p̂). The weight 1 / (1 + e^H) is a constant to the gradient, and
    so is the IoU, as in PSE (the source also lets the boxes learn).
    """
    iou, fixed = jax.lax.stop_gradient((iou, score))
    entropy = -jax.scipy.special.xlogy(fixed, fixed) - jax.scipy.special.xlog1py(1 - fixed, -fixed)
    excess = jnp.maximum(jnp.abs(score - k * iou) - MARGIN, 0.0)
    return beta * excess / (1.0 + jnp.exp(entropy))
