"""This project's variants of PSE: one for each flaw that the paper names and does not correct.

1. The score settles above k·Î, by a gap (sec. III-B): the `shifted` ones settle on the line.
2. The gradient vanishes as p̂ nears 1 (sec. III-C), through the factor p̂(1-p̂) of the sigmoid: the
   `logit` ones measure the distance so that the factor drops out.

docs/losses.md derives them. Whether they make better detectors is a question for measurement.
Throughout, `logit` is o with p̂ = sigmoid(o), and `score` is p̂; `iou` is Î in [0, 1], detached;
`beta` is the weight and `k` the slope; `alpha` and `gamma` are those of the focal loss that the
`shifted` ones are added to. s is k·Î cut to the range of a probability; to [0.05, 1 - 1e-6] where
the loss is shifted.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, Float

Values = Float[Array, "*n"]  # elementwise, of any shape

# No shifted valley lies lower: the correction grows as 1/s, and at inference scores below FCOS's
# threshold of 0.05 are dropped anyway.
LOWEST_TARGET = 0.05
HIGHEST_TARGET = 1.0 - 1e-6  # keeps 1 - s a number to divide by


def focal_pull(score: Values, *, alpha: float = 0.25, gamma: float = 2.0) -> Values:
    """How hard the focal loss of a positive pulls its logit up: -d focal/do, elementwise.

    α (1-s)^γ (1 - s - γ s log s), from Eq. (4) by the chain rule; Eq. (10) where γ = 0.
    """
    return alpha * (1.0 - score) ** gamma * (1.0 - score - gamma * xlogy(score, score))


def pse_shifted_loss(
    score: Values,
    iou: Values,
    *,
    beta: float = 1.0,
    k: float = 1.0,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Values:
    """PSE less the tangent of the focal loss at s: β (p̂ - s)² + h (p̂ - s).

    With h = pull(s) / (s(1-s)), detached, focal + this is stationary exactly at p̂ = s. It is PSE
    with a shifted target, β (p̂ - t)² with t = s - h/(2β), up to a constant; for γ = 0 the shift is
    α/(2βs), the paper's own gap. Below s it is negative.
    """
    target = _target(iou, k)
    slope = focal_pull(target, alpha=alpha, gamma=gamma) / (target * (1.0 - target))
    gap = score - target
    return beta * jnp.square(gap) + slope * gap


def pse_logit_loss(logit: Values, iou: Values, *, beta: float = 1.0, k: float = 1.0) -> Values:
    """Association in logit space: 2β KL(s ‖ p̂), whose gradient by the logit is 2β (p̂ - s).

    PSE's is 2β (p̂ - s) p̂(1-p̂): the same pull without the factor that vanishes at both ends.
    KL(s ‖ p̂) = s log(s/p̂) + (1-s) log((1-s)/(1-p̂)), least (0) on the line.
    """
    return 2.0 * beta * _divergence(logit, jnp.clip(k * jax.lax.stop_gradient(iou), 0.0, 1.0))


def pse_logit_shifted_loss(
    logit: Values,
    iou: Values,
    *,
    beta: float = 1.0,
    k: float = 1.0,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Values:
    """Both corrections: 2β KL(s ‖ p̂) + pull(s) (o - logit(s)), stationary with focal at p̂ = s.

    The pull is cut to α + βs: beyond α + 2βs the sum with the focal loss would fall without bound
    as the score goes to 0. With α = 0.25 and γ = 2 the cut takes effect for β < 0.65 alone, at k·Î
    below 0.17, and lifts the valley there.
    """
    target = _target(iou, k)
    pull = jnp.minimum(focal_pull(target, alpha=alpha, gamma=gamma), alpha + beta * target)
    gap = logit - (jnp.log(target) - jnp.log1p(-target))
    return 2.0 * beta * _divergence(logit, target) + pull * gap


def _target(iou: Values, k: float) -> Values:
    return jnp.clip(k * jax.lax.stop_gradient(iou), LOWEST_TARGET, HIGHEST_TARGET)


def _divergence(logit: Values, target: Values) -> Values:
    """KL(s ‖ sigmoid(o)), elementwise: binary cross-entropy less the entropy of s."""
    own = xlogy(target, target) + xlogy(1.0 - target, 1.0 - target)
    cross = target * jax.nn.log_sigmoid(logit) + (1.0 - target) * jax.nn.log_sigmoid(-logit)
    return own - cross
