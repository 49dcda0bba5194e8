"""Eq. (10) and (11) of the paper against `jax.grad`, on a grid of scores and IoUs.

The printed Eq. (11) has a sign error. By the chain rule, for a positive with γ = 0,

    d/do [-α log p̂ + β (p̂ - kÎ)²] = α (p̂ - 1) + 2β (p̂ - kÎ) p̂ (1 - p̂)
                                   = (p̂ - 1) (α - 2βp̂² + 2βkÎp̂),

where the paper prints (p̂ - 1) (α + 2βp̂² - 2βkÎp̂). The sentence below it in the paper ("if p̂ is much
higher than Î, this factor will be negative") is true of the corrected factor only. The stationary
curve is then p̂ - α / (2βp̂) = kÎ: the score settles above kÎ.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pse_jax.config import LossConfig
from pse_jax.experiments.landscape import positive_loss

Values = Any  # a number, or an array of them
Grid = Float[np.ndarray, "scores ious"]

FINITE_STEP = 1e-5  # of the logit; the central difference then errs by about 1e-10


def cross_entropy_gradient(score: Values, alpha: float) -> Values:
    """Eq. (10): α (p̂ - 1)."""
    return alpha * (score - 1)


def corrected_gradient(score: Values, iou: Values, c: LossConfig) -> Values:
    """Eq. (11) with its sign corrected."""
    return (score - 1) * (c.focal_alpha - 2 * c.beta * score**2 + 2 * c.beta * c.k * iou * score)


def printed_gradient(score: Values, iou: Values, c: LossConfig) -> Values:
    """Eq. (11) as printed."""
    return (score - 1) * (c.focal_alpha + 2 * c.beta * score**2 - 2 * c.beta * c.k * iou * score)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Gradients by the logit, from every route."""

    scores: Grid
    ious: Grid
    focal_autodiff: Grid  # without the association loss
    autodiff: Grid
    finite_difference: Grid
    eq10: Grid
    corrected: Grid
    printed: Grid


def compare(loss: LossConfig, points: int = 99) -> Comparison:
    """Computes everything on a grid of `points` scores in (0, 1) and as many IoUs in [0, 1].

    Args:
        loss: focal + PSE, the functions that train; the equations hold for focal_gamma=0.
        points: per axis.
    """
    axes = np.linspace(0.01, 0.99, points), np.linspace(0, 1, points)
    scores, ious = np.meshgrid(*axes, indexing="ij")
    logits = np.log(scores / (1 - scores))
    with jax.enable_x64(True):

        def value(o: Values, loss: LossConfig) -> jax.Array:
            return positive_loss(jnp.asarray(o), jnp.asarray(ious), loss)

        def slope(loss: LossConfig) -> Grid:
            return np.asarray(jax.grad(lambda o: value(o, loss).sum())(logits))

        up, down = (np.asarray(value(logits + h, loss)) for h in (FINITE_STEP, -FINITE_STEP))
        return Comparison(
            scores=scores,
            ious=ious,
            focal_autodiff=slope(dataclasses.replace(loss, association="none")),
            autodiff=slope(loss),
            finite_difference=(up - down) / (2 * FINITE_STEP),
            eq10=cross_entropy_gradient(scores, loss.focal_alpha),
            corrected=corrected_gradient(scores, ious, loss),
            printed=printed_gradient(scores, ious, loss),
        )
