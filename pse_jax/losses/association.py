"""The association losses, section III of the paper: tie each positive's score to its IoU.

Both act on the classification sub-net alone: the IoU is a constant to them (`stop_gradient`), so
the boxes learn nothing from them ("will not affect the localization sub-net", sec. III-C).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Values = Float[Array, "*n"]  # elementwise, of any shape

SMALLEST_AGREEMENT = 1e-12  # where the logarithm of PCE stops growing


def pse_loss(score: Values, iou: Values, *, beta: float = 1.0, k: float = 1.0) -> Values:
    """Proxy squared error, Eq. (8) for positives: β (p̂ - k·Î)².

    Added to focal loss with γ=0 it is stationary where p̂ - α/(2βp̂) = k·Î (see docs/paper.md for
    the misprint in Eq. 11).

    Args:
        score: p̂, a probability, not a logit.
        iou: Î in [0, 1]; detached.
        beta: weight.
        k: slope of the line p̂ = k·Î that the score is drawn to.
    """
    iou = jax.lax.stop_gradient(iou)
    return beta * jnp.square(score - k * iou)


def pce_loss(score: Values, iou: Values, *, beta: float = 1.0, k: float = 1.0) -> Values:
    """Proxy cross-entropy, section III-A: -β log(1 - |p̂ - k·Î|).

    k·Î is cut to [0, 1], the range of a probability: with k > 1 the paper's formula would take the
    logarithm of a negative number. Arguments as of `pse_loss`. A float32 probability over 1 - 3e-8
    is 1, and its logit gets no gradient: `pce_logit_loss`, which trains, is right there too.
    """
    iou = jax.lax.stop_gradient(iou)
    target = jnp.clip(k * iou, 0.0, 1.0)
    return -beta * jnp.log(jnp.maximum(1.0 - jnp.abs(score - target), SMALLEST_AGREEMENT))


def pce_logit_loss(logit: Values, iou: Values, *, beta: float = 1.0, k: float = 1.0) -> Values:
    """`pce_loss` of sigmoid(logit), with its value and gradient right for every logit.

    With s for k·Î cut to [0, 1], 1 - |p̂ - s| is (1-p̂) + s above the line and p̂ + (1-s) below it;
    both logarithms come from log-sigmoids, which no score rounds away.
    """
    target = jnp.clip(k * jax.lax.stop_gradient(iou), 0.0, 1.0)
    log_s, log_rest = jnp.log(target), jnp.log1p(-target)
    above = jnp.logaddexp(jax.nn.log_sigmoid(-logit), log_s)
    below = jnp.logaddexp(jax.nn.log_sigmoid(logit), log_rest)
    return -beta * jnp.where(logit >= log_s - log_rest, above, below)
